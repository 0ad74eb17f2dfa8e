"""What the photograph shows already stays: an enhanced face is bound to its input where the input can be trusted."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

# How much of an enhancer's change at the input's own resolution is taken back where that change is small, and from
# which to which root mean square, in levels of 255, a change becomes a repair, which stays.
BOUND = 0.75
REPAIR = (4.0, 8.0)
# A face with detail for so many of its pixels is blurred, or sharp; of a blurred one only SAFE of its detail is bound,
# because the blur has weakened the rest.
SHARPNESS = (0.4, 0.6)
SAFE = 0.6

# A face loses on the way through its crop, from nothing where its side is the first of these shares of S to so much
# from the second on that a change up to the first of WORTH, root mean square in levels of 255, is not worth it; one
# from the second on is.
LOSS = (0.65, 0.85)
WORTH = (0.5, 2.0)


def bind(
    enhanced: torch.Tensor, crops: torch.Tensor, masks: torch.Tensor, sizes: Sequence[tuple[float, float]]
) -> torch.Tensor:
    """Enhanced faces `[B, 3, S, S]` that, downscaled to what their inputs resolve, look more like these.

    One step of back-projection (Irani and Peleg 1991). An enhancer changes a clean face little, and what it changes of
    the visible is an error; a degraded face it changes much.

    Args:
        enhanced: in [0, 1].
        crops: what the enhancer saw, `[B, 3, S, S]`.
        masks: what of the faces is taken, `[B, 1, S, S]` in [0, 1].
        sizes: of every face side of its crop and its detail, in px of the photograph.
    """
    faces = zip(enhanced, crops, masks, sizes, strict=True)
    return torch.stack([_bound(face, crop, mask, *size) for face, crop, mask, size in faces])


def worth(
    enhanced: torch.Tensor, crops: torch.Tensor, masks: torch.Tensor, sizes: Sequence[tuple[float, float]]
) -> torch.Tensor:
    """The masks, less of those faces that the enhancer hardly changes but that lose in its crop, as in `bind`."""
    squares = (masks * (enhanced - crops).square()).sum((1, 2, 3)) / (3 * masks.sum((1, 2, 3)))
    level = 255 * squares.sqrt().nan_to_num()
    gain = ((level - WORTH[0]) / (WORTH[1] - WORTH[0])).clamp(0, 1)
    size = masks.new_tensor([size for size, _ in sizes]) / crops.shape[-1]
    loss = ((size - LOSS[0]) / (LOSS[1] - LOSS[0])).clamp(0, 1)
    return masks * (1 - loss * (1 - gain))[:, None, None, None]


def _bound(enhanced: torch.Tensor, crop: torch.Tensor, mask: torch.Tensor, size: float, detail: float) -> torch.Tensor:
    low, high = SHARPNESS
    sharpness = min(max((detail / size - low) / (high - low), 0), 1)
    change = _downscaled_and_back(enhanced - crop, min(size, detail * (SAFE + sharpness)))
    level = 255 * ((mask * change.square()).sum() / (3 * mask.sum()).clamp(min=1e-6)).sqrt()
    weight = BOUND * ((REPAIR[1] - level) / (REPAIR[1] - REPAIR[0])).clamp(0, 1)
    return (enhanced - weight * change).clamp(0, 1)


def _downscaled_and_back(picture: torch.Tensor, side: float) -> torch.Tensor:
    size = picture.shape[-1]
    side = max(1, round(side))
    if side >= size:
        return picture
    small = F.interpolate(picture[None], size=(side, side), mode="bicubic", antialias=True)
    return F.interpolate(small, size=(size, size), mode="bicubic")[0]
