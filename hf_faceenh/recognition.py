"""Whether an enhanced face is still of the same person: the distance that a face recognizer sees.

Faces are `[B, 3, S, S]` RGB in [-1, 1], FFHQ layout. A recognizer is any model that maps `pixel_values` to
`.embeddings` and whose config has what `FaceRecognizerConfig` lists first. All is differentiable.
"""

import torch
import torch.nn.functional as F
from torch import nn

from hf_faceenh.alignment import FFHQ_TEMPLATE, invert, scale_of, similarity_transform

DISTANCES = ("euclidean", "cosine")


def check_recognizer(recognizer: nn.Module) -> None:
    """
    Raises:
        ValueError: for a model whose config does not say what a recognizer's must.
    """
    config = getattr(recognizer, "config", None)
    if lacking := [
        name for name in ("image_size", "value_range", "distance", "template") if not hasattr(config, name)
    ]:
        raise ValueError(
            f"{type(recognizer).__name__} is no face recognizer: its config lacks {', '.join(lacking)}. Convert one: "
            "hf-faceenh convert dlib_face_recognition_resnet_model_v1.dat FOLDER"
        )
    if config.distance not in DISTANCES:
        raise ValueError(f"The recognizer's distance must be one of {', '.join(DISTANCES)}; got {config.distance!r}.")
    if torch.tensor(config.template).shape != (5, 2):
        raise ValueError(f"The recognizer's template must hold five points (x, y); got {config.template}.")


def align_for_recognizer(faces: torch.Tensor, recognizer: nn.Module) -> torch.Tensor:
    """Cuts from crops in the FFHQ layout what the recognizer wants to see.

    The similarity transform from the layout's five points to the recognizer's is the same for all faces. Bilinear,
    as dlib does it, after averaging squares of pixels where the crop is so large that this would alias. What lies
    outside the crop is its border, prolonged.

    Args:
        faces: `[B, 3, S, S]` in [-1, 1].
        recognizer: whose config says size, range and template.

    Returns:
        `[B, 3, R, R]` in the recognizer's range, R its image size.
    """
    config = recognizer.config
    side, (low, high) = config.image_size, config.value_range
    transform = similarity_transform(torch.tensor([FFHQ_TEMPLATE]), torch.tensor(config.template))[0]  # in sides
    reduction = faces.shape[-1] / (side * float(scale_of(transform)))  # px of the crop per px of the result
    if reduction >= 2:
        faces = F.interpolate(faces, size=[faces.shape[-1] // int(reduction)] * 2, mode="area")
    back = invert(transform)
    back[:, 2] = 2 * back[:, 2] + back[:, :2].sum(dim=1) - 1  # of coordinates in [-1, 1] instead of [0, 1]
    back = back[None].to(faces.device, non_blocking=faces.is_cuda)  # otherwise each call waits for the GPU
    grid = F.affine_grid(back, [1, 3, side, side], align_corners=False)
    aligned = F.grid_sample(
        faces.float(), grid.expand(len(faces), -1, -1, -1), padding_mode="border", align_corners=False
    )
    return low + (aligned + 1) * ((high - low) / 2)


def embed(recognizer: nn.Module, faces: torch.Tensor) -> torch.Tensor:
    """Embeddings `[B, D]` of faces `[B, 3, S, S]` in [-1, 1]."""
    return recognizer(align_for_recognizer(faces, recognizer).to(recognizer.dtype)).embeddings


def identity_distance(recognizer: nn.Module, faces_a: torch.Tensor, faces_b: torch.Tensor) -> torch.Tensor:
    """Distance of each face of one batch from its counterpart in the other, as the recognizer measures it: `[B]`.

    0 for the same face. With dlib's recognizer faces of one person mostly lie less than 0.6 apart.

    Args:
        recognizer: as `check_recognizer` wants it. Its parameters get gradients too unless they are frozen.
        faces_a, faces_b: `[B, 3, S, S]` in [-1, 1]; S may differ.
    """
    return embedding_distance(recognizer, embed(recognizer, faces_a), embed(recognizer, faces_b))


def embedding_distance(recognizer: nn.Module, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`identity_distance` of embeddings `[B, D]`, which `embed` gives."""
    a, b = a.float(), b.float()
    if recognizer.config.distance == "cosine":
        return 1 - F.cosine_similarity(a, b)
    return torch.linalg.vector_norm(a - b, dim=1)
