"""How well a super-resolver upscales, beside bicubic upscaling."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image

from hf_faceenh.learning.degradation import noisy_and_compressed
from hf_faceenh.learning.metrics import flat_noise, psnr
from hf_faceenh.learning.super_resolution.samples import Photographs, from_float, resample, to_tensor
from hf_faceenh.learning.tables import markdown_table
from hf_faceenh.models.super_resolver import SuperResolver


def downscaled(sharp: np.ndarray, scale: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """The clean input; `rng` has nothing to decide here."""
    return resample(sharp, (sharp.shape[1] // scale, sharp.shape[0] // scale), Image.Resampling.BICUBIC)


def slightly_degraded(sharp: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """The fixed degraded input: blur of 0.8 px, downscaled, noise of 4/255, JPEG quality 80."""
    return noisy_and_compressed(downscaled(cv2.GaussianBlur(sharp, (0, 0), 0.8), scale), 4, 80, rng)


INPUTS = {"clean": downscaled, "poor": slightly_degraded}  # name in the table → how it is made


@torch.no_grad()
def evaluate(
    model: SuperResolver, pictures: Sequence[np.ndarray] | Photographs, seed: int = 0
) -> dict[str, dict[str, float]]:
    """For each of `INPUTS`: PSNR in dB and noise in flat places, of 255, of `model` and of bicubic upscaling."""
    scale, figures = model.config.scale, {}
    for name, make in INPUTS.items():
        rows = []
        for i in range(len(pictures)):
            sharp = pictures[i]
            sharp = sharp[: sharp.shape[0] // scale * scale, : sharp.shape[1] // scale * scale]
            small = make(sharp, scale, np.random.default_rng((seed, i)))
            results = {"bicubic": resample(small, sharp.shape[1::-1], Image.Resampling.BICUBIC)}
            results["ours"] = upscaled(model, small)
            rows.append(
                {f"psnr_{kind}": psnr(result, sharp) for kind, result in results.items()}
                | {f"flat_noise_{kind}": flat_noise(result, sharp) for kind, result in results.items()}
            )
        figures[name] = {figure: float(np.mean([row[figure] for row in rows])) for figure in rows[0]}
    return figures


def upscaled(model: SuperResolver, picture: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 3]` → uint8 `[sH, sW, 3]`."""
    result = model(to_tensor(picture)[None].to(model.device)).sample[0]
    return from_float(result.permute(1, 2, 0).float().cpu().numpy())


def table(figures: dict[str, dict[str, float]]) -> str:
    """`evaluate`'s figures as a Markdown table."""
    names = list(next(iter(figures.values())))
    return markdown_table(
        ["input", *names], [[kind, *(f"{row[name]:.2f}" for name in names)] for kind, row in figures.items()]
    )
