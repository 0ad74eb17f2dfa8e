"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020), so that it does not learn its few
sharp faces by heart."""

import torch
import torch.nn.functional as F


def augmented(faces: torch.Tensor, strength: float, seed: int) -> torch.Tensor:
    """Recoloured, shifted, and with a square covered; each face its own way.

    Args:
        faces: `[B, 3, S, S]` in [-1, 1]; the result can leave that range a little.
        strength: 0: the same faces; 1: brightness ± 0.5, saturation ± 100 %, contrast ± 50 %, shifted by up to S/8,
            and covered by a grey square of S/2.
        seed: decides everything random. Faces of one seed and number are all augmented alike.
    """
    if not strength:
        return faces
    side, generator = faces.shape[-1], torch.Generator().manual_seed(seed)
    draws = torch.rand(7, len(faces), generator=generator)  # on the CPU, whatever the faces' device: the same there
    brightness, saturation, contrast = (strength * (2 * draws[:3] - 1)).to(faces)[..., None, None, None]
    faces = faces + brightness / 2
    grey = faces.mean(dim=1, keepdim=True)
    faces = grey + (faces - grey) * (1 + saturation)
    mean = faces.mean(dim=(1, 2, 3), keepdim=True)
    faces = mean + (faces - mean) * (1 + contrast / 2)

    reach, square = round(strength * side / 8), round(strength * side / 2)
    shifts = (draws[3:5] * (2 * reach + 1)).long().T.tolist()
    padded = F.pad(faces, (reach,) * 4, mode="reflect")
    faces = torch.stack([face[:, y : y + side, x : x + side] for face, (x, y) in zip(padded, shifts, strict=True)])

    corners = (draws[5:] * (side - square + 1)).long().to(faces.device)[..., None]  # [2, B, 1]
    places = torch.arange(side, device=faces.device)
    columns, rows = (places >= corners) & (places < corners + square)  # [B, S] each
    return faces.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)
