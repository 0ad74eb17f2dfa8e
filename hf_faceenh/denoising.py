"""Takes grain out of a photograph before it is super-resolved, and decides how much the super-resolver takes out."""

import cv2
import numpy as np
import torch

from hf_faceenh.grain import LUMAS, NONE, Grain, Grid, measure
from hf_faceenh.models import SuperResolver
from hf_faceenh.pictures.luminance import LUMA

PATCH, SEARCH = 5, 15  # px: what is compared, and how far around it its like are looked for
ALIKE = 1.2  # deviations of the grain by which like patches differ
LARGEST = 3  # deviations of the grain: what differs by more is no grain, and stays
STRIP = 2_000_000  # pixels at once
NOISY = 8 / 255  # deviation of the noise from which on all of it goes


def check_denoise(denoise: float | None, super_resolver: SuperResolver | None) -> None:
    """
    Raises:
        ValueError: with one line, for `denoise` where there is no super-resolver that can be told it.
    """
    if denoise is not None and not _is_told(super_resolver):
        raise ValueError(
            "The pipeline has no super_resolver that takes a wanted amount of denoising. Leave denoise out, or "
            "load the pipeline with one."
        )


def super_resolvers_share(
    pixels: torch.Tensor, denoise: float | None, grain: float | None, super_resolver: SuperResolver | None
) -> float | None:
    """How much noise the super-resolver is told to remove from a photograph, `[3, H, W]` in [0, 1]: `denoise`; by
    default what is not wanted as grain; where neither was said, the more the noisier it is: what the network takes for
    noise in a clean one is skin. `None` where it cannot be told.
    """
    if not _is_told(super_resolver):
        return None
    if denoise is not None:
        return denoise
    if grain is not None:
        return 1 - grain
    found = measure(Grid(*pixels.shape[1:]).windows(pixels))
    return 0.0 if found is None else min(max((found.deviation - NONE) / (NOISY - NONE), 0.0), 1.0)


def _is_told(super_resolver: SuperResolver | None) -> bool:
    return super_resolver is not None and super_resolver.config.denoising


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
