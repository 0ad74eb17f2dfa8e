"""Weights and faces made from names alone: what published code computed from them is small enough to keep."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from checkpoints import DATA
from safetensors.torch import load_file


def made_from(name: str) -> np.random.RandomState:
    return np.random.RandomState(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))


def recipe_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
    """A state dict of these keys and shapes, each tensor made from its key: matrices and kernels N(0, 1/fan_in),
    one-dimensional `*.weight` 1 + 0.1·N, embeddings N, the rest 0.1·N."""
    state = {}
    for key, shape in shapes.items():
        values = made_from(key).standard_normal(shape).astype(np.float32)
        if "embedding" in key or key == "position_emb":
            pass
        elif len(shape) > 1:
            values /= np.sqrt(np.prod(shape[1:]))
        elif key.endswith("weight"):
            values = 1 + 0.1 * values
        else:
            values *= 0.1
        state[key] = torch.from_numpy(values.astype(np.float32))
    return state


def recipe_face(size: int) -> torch.Tensor:
    """`[1, 3, size, size]` in [-1, 1]: smooth colours with fine noise on them."""
    random = made_from("picture")
    coarse = torch.from_numpy(random.uniform(-0.8, 0.8, (1, 3, 16, 16)).astype(np.float32))
    fine = torch.from_numpy(random.uniform(-0.2, 0.2, (1, 3, size, size)).astype(np.float32))
    return F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False) + fine


def published(name: str) -> dict[str, torch.Tensor]:
    """What the published code made of the recipe's face with the recipe's weights; images sampled as `sampled`."""
    return load_file(DATA / "golden" / name / "io.safetensors")


def sampled(image: torch.Tensor) -> torch.Tensor:
    """32×32 pixels of an image, `[B, 3, S, S]`."""
    step = image.shape[-1] // 32
    return image[..., 3 % step :: step, 5 % step :: step]
