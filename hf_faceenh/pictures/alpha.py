"""Colour under transparent pixels, where files often have black or anything: continued from what is seen.

Upscaling mixes neighbours, and would draw what nobody has seen into the edge as a dark rim. The colours are continued
by pull and push (Gortler et al., The Lumigraph, 1996, section 3.4): averages at ever lower resolution, weighted with
what is known, until all is known; then back up, where each level fills the gaps of the one above it.
"""

import cv2
import numpy as np
import torch

RELIABLE = 4 / 255  # alpha from which a colour counts fully: below, most files hold few of its levels, or none


def continued(pixels: torch.Tensor, alpha: torch.Tensor | None) -> torch.Tensor:
    """`pixels` `[3, H, W]` with other colours where `alpha` `[1, H, W]` is near 0; the same tensor if nothing is."""
    if alpha is None or alpha.min() >= RELIABLE or alpha.max() == 0:
        return pixels
    known = np.minimum(alpha[0].cpu().numpy() / np.float32(RELIABLE), 1)
    planes = np.empty(pixels.shape, np.float32)
    for plane, values in zip(planes, pixels.cpu().numpy(), strict=True):  # one at a time needs less memory
        plane[:] = _filled(values * known, known)
    return torch.from_numpy(planes).to(pixels.device).clamp_(0, 1)


def _filled(sums: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values `HxW` from `sums` = values × known: as they are where `known` is 1, continued where it is 0."""
    if known.min() == 1:
        return sums
    if max(sums.shape) == 1:
        return sums / known
    coarse_sums, coarse_known = cv2.pyrDown(sums), cv2.pyrDown(known)
    enough = np.minimum(4 * coarse_known, 1)  # one pixel of four tells their average
    coarse_sums *= enough / np.maximum(coarse_known, 1e-12)
    filled = cv2.pyrUp(_filled(coarse_sums, enough), dstsize=sums.shape[::-1])
    filled *= 1 - known
    filled += sums
    return filled
