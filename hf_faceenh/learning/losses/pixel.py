"""Losses of the pixels themselves."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from hf_faceenh.learning.losses.base import ERROR_FLOOR, face_errors, relative_error


def relative_l1(
    enhanced: torch.Tensor, hq: torch.Tensor, lq: torch.Tensor, floor: float = ERROR_FLOOR
) -> torch.Tensor:
    """The logarithm of each face's mean absolute error relative to its degraded input's, averaged over the batch.

    0: no better than the input; below 0: better. An absolute error is decided by the heavily damaged faces alone,
    whose error is ten times larger, and the network learns to smooth good faces as well. Here a tenth less error
    counts the same on every face, and harming a good face costs as much as healing a bad one gains. The logarithm,
    unlike the bare ratio, bounds what one face with an almost perfect input can do to a step. `floor` keeps invisible
    errors from counting.
    """
    return relative_error(face_errors(enhanced, hq), face_errors(lq, hq), floor).log().mean()


def relative_l2(
    enhanced: torch.Tensor, hq: torch.Tensor, lq: torch.Tensor, floor: float = ERROR_FLOOR
) -> torch.Tensor:
    """Likewise with the root of each face's mean squared error: but for the floor, the gain in PSNR over the degraded
    face, −20·log₁₀ of the ratio, in other units."""
    return relative_error(_root_mean_square(enhanced, hq), _root_mean_square(lq, hq), floor).log().mean()


def _root_mean_square(faces: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
    """Each face's, `[B]`. The 1e-12 gives the root a gradient where two pictures are equal."""
    return ((faces - hq).square().mean(dim=(1, 2, 3)) + 1e-12).sqrt()


def charbonnier(enhanced: torch.Tensor, hq: torch.Tensor, epsilon: float = 1e-3) -> torch.Tensor:
    """√(d² + ε²) − ε of the difference d (Charbonnier et al. 1994; for images, Lai et al. 2017): L1, but smooth where
    d is 0. The −ε, which has no gradient, makes it 0 there."""
    return ((enhanced - hq).square() + epsilon**2).sqrt().mean() - epsilon


PixelLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # of enhanced, sharp, degraded faces
PIXEL_LOSSES: dict[str, PixelLoss] = {
    "relative_l1": relative_l1,
    "relative_l2": relative_l2,
    "l1": lambda enhanced, hq, lq: F.l1_loss(enhanced, hq),
    "charbonnier": lambda enhanced, hq, lq: charbonnier(enhanced, hq),
}
