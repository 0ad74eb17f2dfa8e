"""How a picture, or a face at its place in it, reaches a factor."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from hf_faceenh.alignment import scale_of
from hf_faceenh.models import SuperResolver
from hf_faceenh.tiling import ALIGNMENT, tile_count, tiled

UPSCALES = (1, 2, 4)


@dataclass(frozen=True, slots=True, eq=False)
class Upscaler:
    """Upscales pictures tile by tile with a super-resolver, or with bicubic interpolation where there is none.

    Args:
        super_resolver: maps `[B, 3, H, W]` in [0, 1] to s times the size, s one of its `scales`.
        tile_size: side of the tiles in px of the picture.
        denoise: how much of the pictures' grain and noise a super-resolver with `config.denoising` takes out, in
            [0, 1]; by default all of it.
    """

    super_resolver: SuperResolver | None
    tile_size: int
    denoise: float | None = None

    def __call__(
        self, pixels: torch.Tensor, factor: int, on_tile: Callable[[int, int], None] | None = None
    ) -> torch.Tensor:
        """`[3, H, W]` in [0, 1] → `[3, fH, fW]`: as many passes as it takes, then resampling to the wanted size.

        `on_tile` is called as `on_tile(done, total)` when the work begins and after each tile of a super-resolver.
        """
        if self.super_resolver is None:
            return bicubic(pixels, factor)
        if on_tile is not None:
            on_tile(0, self.tile_count(*pixels.shape[1:], factor))
        overlap = self.overlap(factor)
        result = tiled(lambda tile: self._network(tile, factor), pixels, factor, self.tile_size, overlap, on_tile)
        return result.clamp_(0, 1)

    def enhanced_face(
        self, face: torch.Tensor, factor: int, on_tile: Callable[[int, int], None] | None = None
    ) -> torch.Tensor:
        """The same for an enhanced face, which is clean: at factor 1 there is nothing left to do."""
        return face if factor == 1 else self(face, factor, on_tile)

    def tile_count(self, height: int, width: int, factor: int) -> int:
        """How many tiles a picture of that size is cut into; 0 without a super-resolver."""
        return 0 if self.super_resolver is None else tile_count(height, width, self.tile_size, self.overlap(factor))

    def passes(self, factor: int) -> list[int]:
        """The super-resolver's passes to `factor`, or beyond it, each with its scale: one where it reaches it at once;
        at least one, because it also cleans."""
        scale = self.super_resolver.config.scale
        if factor in self.super_resolver.scales:
            return [factor]
        return [scale] * (1 if scale == 1 else max(1, math.ceil(math.log(factor, scale))))

    def overlap(self, factor: int) -> int:
        """Context px of a tile: as far as the super-resolver sees; an eighth of the tile where that is too far, as for
        RRDB, which sees hundreds of px but hardly uses the distant ones."""
        radius, reached, seen = self.super_resolver.receptive_radius, 1, 2  # what resampling to the wanted size sees
        for scale in self.passes(factor):
            seen += math.ceil(radius / reached)
            reached *= scale
        largest = (self.tile_size - ALIGNMENT) // 4  # that `tiled` takes
        return seen if seen <= largest else self.tile_size // 8

    def _network(self, tile: torch.Tensor, factor: int) -> torch.Tensor:
        passes = self.passes(factor)
        reached = math.prod(passes)
        for scale in passes:  # in float32, whatever the network computes in: each pass adds to the picture
            tile = self.super_resolver(tile, scale=scale, denoise=self.denoise).sample.clamp_(0, 1)
        if reached == factor:
            return tile
        return F.avg_pool2d(tile, reached // factor) if reached > factor else _resized(tile, factor // reached)


class ShownFaces(Sequence):
    """Enhanced faces, each upscaled to the size at which the result shows it, so that it stays as sharp as the rest.

    A face is made each time it is asked for, and not kept: many large ones together would not fit into memory.

    Args:
        face_at: gives the face of an index, `[3, S, S]` in [0, 1].
        transforms: `[N, 2, 3]`, px of the photograph → px of the face.
        factor: px of the result per px of the photograph.
        upscaler: upscales them.
        on_face: called when a face has been made.
    """

    def __init__(
        self,
        face_at: Callable[[int], torch.Tensor],
        transforms: torch.Tensor,
        factor: int,
        upscaler: Upscaler,
        on_face: Callable[[], None] = lambda: None,
    ):
        self.face_at, self.upscaler, self.on_face = face_at, upscaler, on_face
        wanted = factor / scale_of(transforms)  # px of the result per px of the face
        self.factors = [
            next((one for one in UPSCALES if one >= ratio / 1.1), UPSCALES[-1]) for ratio in wanted.tolist()
        ]

    def __len__(self) -> int:
        return len(self.factors)

    def __getitem__(self, index: int) -> torch.Tensor:
        face = self.upscaler.enhanced_face(self.face_at(index), self.factors[index])
        self.on_face()
        return face


def bicubic(pixels: torch.Tensor, factor: int) -> torch.Tensor:
    """`[3, H, W]` in [0, 1] → `[3, fH, fW]`."""
    return _resized(pixels[None], factor)[0].clamp_(0, 1)


def _resized(pictures: torch.Tensor, factor: int) -> torch.Tensor:
    return pictures.clone() if factor == 1 else F.interpolate(pictures, scale_factor=factor, mode="bicubic")
