"""Running a network over a picture that is larger than memory."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product, zip_longest

import torch

ALIGNMENT = 4  # px: networks that start with a pixel-unshuffle (by 4 at most) look at cells, so tiles start on these


@dataclass(frozen=True, slots=True)
class _Span:
    """One tile along one axis."""

    read: slice  # input px that the network sees
    keep: slice  # of its output, those that enter the result
    write: slice  # where in the result
    weights: torch.Tensor  # of the kept pixels, `[n]`


def _starts(length: int, tile_size: int, overlap: int) -> range:
    """The first px of each tile along an axis."""
    stride = (tile_size - 3 * overlap) // ALIGNMENT * ALIGNMENT
    return range(0, max(0, length - tile_size) + stride, stride)


def tile_count(height: int, width: int, tile_size: int, overlap: int) -> int:
    """How many tiles `tiled` cuts a picture of that size into; see there."""
    return len(_starts(height, tile_size, overlap)) * len(_starts(width, tile_size, overlap))


def _spans(length: int, scale: int, tile_size: int, overlap: int, like: torch.Tensor) -> list[_Span]:
    """The tiles along an axis of `length` px; the last may be shorter. At every output pixel the weights sum to 1."""
    starts = _starts(length, tile_size, overlap)

    def rise(start: int, at: torch.Tensor) -> torch.Tensor:
        """The tile's weight against the one before it: 0 over its first `overlap` px, then rising to 1 as slowly."""
        return ((at + 0.5 - (start + overlap) * scale) / max(overlap * scale, 0.5)).clamp(0, 1)

    spans = []
    for start, following in zip_longest(starts, starts[1:]):
        end = min(start + tile_size, length)
        first = (start + overlap) * scale if start else 0
        last = length * scale if following is None else (following + 2 * overlap) * scale
        at = torch.arange(first, last, device=like.device, dtype=torch.float32)
        weights = rise(start, at) if start else torch.ones_like(at)
        if following is not None:
            weights = weights * (1 - rise(following, at))
        keep = slice(first - start * scale, last - start * scale)
        spans.append(_Span(slice(start, end), keep, slice(first, last), weights.to(like.dtype)))
    return spans


def tiled(
    network: Callable[[torch.Tensor], torch.Tensor],
    picture: torch.Tensor,
    scale: int,
    tile_size: int,
    overlap: int,
    on_tile: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Runs `network` over overlapping tiles of `picture` and blends them with linear ramps.

    Neighbouring tiles share 3·overlap px: the outer third of it on either side is context that only the network sees,
    the middle third is blended. So no output pixel is nearer than `overlap` px to a border that the picture does not
    have, and the result equals `network(picture)` where `overlap` is at least the network's receptive radius.
    The two weights of a pixel are w and 1 − w along each axis, so the tiles are added straight into the result; beside
    that only one tile is in memory.

    Args:
        network: maps `[1, 3, h, w]` to `[1, 3, scale·h, scale·w]`, for any h, w.
        picture: `[3, H, W]`.
        scale: how many output pixels per input pixel and axis, ≥ 1.
        tile_size: side of the tiles in input px; a picture no larger than that is one tile.
        overlap: context on each side of a tile in input px; tile_size ≥ 4·overlap + 4.
        on_tile: called as `on_tile(done, total)` after each tile; to cancel, let it raise.

    Returns:
        `[3, scale·H, scale·W]`, on the device and in the dtype of `picture`.

    Raises:
        ValueError: where the picture is not `[3, H, W]`, or the tiles are too small for the overlap.
    """
    if picture.ndim != 3:
        raise ValueError(f"tiled expects one picture [3, H, W]; got {list(picture.shape)}. Call it for each picture.")
    if overlap < 0 or tile_size < 4 * overlap + ALIGNMENT:
        raise ValueError(
            f"tile_size must be at least 4 * overlap + {ALIGNMENT} px, overlap at least 0; got tile_size {tile_size}, "
            f"overlap {overlap}. Choose larger tiles or a smaller overlap."
        )
    channels, height, width = picture.shape
    rows = _spans(height, scale, tile_size, overlap, picture)
    columns = _spans(width, scale, tile_size, overlap, picture)
    result = picture.new_zeros(channels, scale * height, scale * width)
    for done, (row, column) in enumerate(product(rows, columns), 1):
        tile = network(picture[None, :, row.read, column.read])[0, :, row.keep, column.keep]
        result[:, row.write, column.write].addcmul_(tile, row.weights[:, None] * column.weights)
        if on_tile is not None:
            on_tile(done, len(rows) * len(columns))
    return result
