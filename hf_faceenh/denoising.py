"""Takes grain out of a photograph before it is super-resolved, and decides how much the super-resolver takes out."""

import cv2
import numpy as np
import torch

from hf_faceenh.grain import LUMAS, Grain, Grid, measure
from hf_faceenh.models import SuperResolver
from hf_faceenh.pictures.luminance import LUMA

PATCH, SEARCH = 5, 15  # px: what is compared, and how far around it its like are looked for
ALIKE = 1.2  # deviations of the grain by which like patches differ
LARGEST = 3  # deviations of the grain: what differs by more is no grain, and stays
STRIP = 2_000_000  # pixels at once


def super_resolvers_share(
    denoise: float | None, grain: float | None, super_resolver: SuperResolver | None
) -> float | None:
    """How much noise the super-resolver is told to remove: `denoise`; by default what is not wanted as grain; `None`,
    as much as it removes by itself, where neither was said or it cannot be told.

    Raises:
        ValueError: with one line, for `denoise` that it cannot be told.
    """
    if super_resolver is None or not super_resolver.config.denoising:
        if denoise is not None:
            raise ValueError(
                "The pipeline has no super_resolver that takes a wanted amount of denoising. Leave denoise out, or "
                "load the pipeline with one."
            )
        return None
    return 1 - grain if denoise is None and grain is not None else denoise


def with_less_grain(pixels: torch.Tensor, amount: float | None) -> torch.Tensor:
    """A photograph with `amount` of its grain; itself where it has none to speak of, or shall keep all (1 or `None`).

    Means over like patches (Buades et al. 2011, in OpenCV's implementation).

    Args:
        pixels: `[3, H, W]` in [0, 1].
        amount: 0 to 1, a share of the grain's deviation.
    """
    if amount is None or amount >= 1:
        return pixels
    grain = measure(Grid(*pixels.shape[1:]).windows(pixels))
    if grain is None or not grain.is_seen:
        return pixels
    result, margin = torch.empty_like(pixels), (PATCH + SEARCH) // 2
    rows = max(1, STRIP // pixels.shape[2])
    for top in range(0, pixels.shape[1], rows):
        start = max(0, top - margin)
        strip = pixels[:, start : top + rows + margin].permute(1, 2, 0).cpu().numpy()
        cleaned = strip + (1 - amount) * _change(np.ascontiguousarray(strip), grain)
        kept = torch.from_numpy(cleaned[top - start :][:rows]).permute(2, 0, 1)
        result[:, top : top + rows] = kept.to(pixels)
    return result


def _change(strip: np.ndarray, grain: Grain) -> np.ndarray:
    """What is added to rows `[h, W, 3]` to clean them."""
    rounded = (strip * 255).round().clip(0, 255).astype(np.uint8)
    strength = ALIKE * 255 * float(grain.variance[grain.measured].mean() ** 0.5)
    cleaned = cv2.fastNlMeansDenoising(rounded, None, strength, PATCH, SEARCH)
    limit = LARGEST * np.interp(cleaned @ (np.float32(LUMA) / 255), LUMAS, grain.variance**0.5)[..., None]
    return ((cleaned.astype(np.float32) - rounded) / 255).clip(-limit, limit).astype(np.float32)
