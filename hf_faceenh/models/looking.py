"""Where a face detector looks at a picture.

It sees the whole of a picture at a limited size, at which small faces of a large picture vanish. So it looks again at
larger scales, in overlapping tiles: each look is there for the faces that are too small in the one before. A last look
at each face, at one size for all, finds its landmarks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F

from hf_faceenh.models.detection import FaceDetections, FaceDetectorOutput, faces_at, non_maximum_suppression

SEEN = 27  # px of the network's input: of faces whose box is at least so large, 98 of 100 are found
ENOUGH = 0.9  # of the scale that the smallest face needs: a look at a little less does, too
STEP = 4  # the largest ratio of the scales of two looks that follow each other
TILE = 768  # px of the network's input: larger tiles leave a CPU's caches, smaller ones overlap for a larger part
LARGER = 1.65  # a look also takes faces so much larger than it has to: some are hard to see, and sizes are estimates
OVERLAP = 1.15  # of two tiles, in sides of the largest box: a face and a little around it
SLACK = 0.05  # of the overlap: so far beyond the middle a tile still takes faces, as centres are estimates
MIRRORED = [1, 0, 2, 4, 3]  # which landmark each one becomes in the mirror
PATCH_MARGIN = 1.5  # side of a face's patch in sides of its box
SEEN_AGAIN = 0.3  # the score above which the look at a patch counts


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis, in px of the picture.

    Args:
        start, end: what the network sees.
        first, last: where the centres of the tile's own faces lie; others are a neighbour's.
    """

    start: int
    end: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Tiling:
    """A look at a picture in tiles.

    Args:
        scale: px of the network's input per px of the picture.
        largest: the longer side, in px of the picture, of the largest box that is whole in a tile wherever it lies.
        tiles: row and column of each tile.
    """

    scale: float
    largest: float
    tiles: Sequence[tuple[Span, Span]]


def closer_looks(height: int, width: int, scale: float, smallest: float) -> list[Tiling]:
    """The looks in tiles that a picture needs after one at its whole, coarsest first.

    Args:
        height, width: of the picture in px.
        scale: of the look at the whole, px of the network's input per px of the picture.
        smallest: the longer side, in px of the picture, of the smallest box that matters. No look upscales the
            picture for its sake.
    """
    finest = min(1.0, SEEN / smallest) if smallest > 0 else 1.0
    if scale >= ENOUGH * finest:
        return []
    count = math.ceil(math.log(finest / scale, STEP))
    step = (finest / scale) ** (1 / count)
    return [tiling(height, width, scale * step**k, SEEN / (scale * step ** (k - 1))) for k in range(1, count + 1)]


def tiling(height: int, width: int, scale: float, largest: float) -> Tiling:
    """A look at `scale` that has every box up to `largest` px of the picture whole in a tile."""
    largest *= LARGER
    rows, columns = (spans(length, TILE / scale, OVERLAP * largest) for length in (height, width))
    return Tiling(scale, largest, list(product(rows, columns)))


def spans(length: int, tile: float, overlap: float) -> list[Span]:
    """Equal tiles of at most `tile` px, as few as cover `length` px where neighbours share `overlap` px."""
    count = max(1, math.ceil((length - overlap) / (tile - overlap)))
    stride = (length - overlap) / count
    borders = [k * stride + overlap / 2 for k in range(1, count)]  # between one tile's faces and the next one's
    slack = SLACK * overlap
    return [
        Span(
            start=max(0, math.floor(k * stride)),
            end=min(length, math.ceil((k + 1) * stride + overlap)),
            first=before - slack,
            last=after + slack,
        )
        for k, (before, after) in enumerate(zip([-math.inf, *borders], [*borders, math.inf], strict=True))
    ]


def look_closer(
    look: Callable[[torch.Tensor, float], FaceDetections],
    image: torch.Tensor,
    at: Tiling,
    on_look: Callable[[], None] | None = None,
) -> FaceDetections:
    """The faces of a picture `[3, H, W]` that its tiles show, in px of the picture.

    A face that a tile cuts is left to the neighbour that has it whole, and one that is too large to be whole in any
    tile to a coarser look.

    Args:
        look: the faces of a picture seen at a scale, in px of that picture.
        image: the picture.
        at: the scale and the tiles.
        on_look: called before each tile; to cancel, let it raise.
    """
    found = []
    for row, column in at.tiles:
        if on_look is not None:
            on_look()
        faces = look(image[:, row.start : row.end, column.start : column.end], at.scale)
        faces = faces.shifted(column.start, row.start)
        x, y = faces.centres.unbind(dim=1)
        own = (x >= column.first) & (x <= column.last) & (y >= row.first) & (y <= row.last)
        found.append(faces[own & (faces.sides <= at.largest)])
    return FaceDetections.joined(found)


def united(looks: Sequence[FaceDetections], scales: Sequence[float], threshold: float) -> FaceDetections:
    """The faces of several looks at one picture, each once, best first.

    A face stays as the first look saw it that saw it large enough, or else as the look that saw it largest.

    Args:
        looks: what each look found, coarsest first.
        scales: of the looks, px of the network's input per px of the picture.
        threshold: two boxes whose intersection over union is at least this are one face.
    """
    faces = FaceDetections.joined(looks)
    ranks = [
        torch.where(scale * look.sides >= SEEN, index, 2 * len(looks) - index)
        for index, (look, scale) in enumerate(zip(looks, scales, strict=True))
    ]
    order = faces.scores.argsort(descending=True, stable=True)
    faces = faces[order[torch.cat(ranks)[order].argsort(stable=True)]]
    one_picture = torch.zeros_like(faces.scores)
    faces = faces[non_maximum_suppression(faces.boxes, one_picture, threshold)]
    return faces[faces.scores.argsort(descending=True, stable=True)]


def square(image: torch.Tensor, x: int, y: int, side: int) -> torch.Tensor:
    """The square of the picture `[3, H, W]` whose upper left corner is (x, y), black outside: `[3, side, side]`."""
    height, width = image.shape[1:]
    return F.pad(image, (-x, x + side - width, -y, y + side - height))  # a negative padding cuts


def look_again(
    network: Callable[[torch.Tensor], FaceDetectorOutput], image: torch.Tensor, faces: FaceDetections, size: int
) -> torch.Tensor:
    """Landmarks `[N, 5, 2]` from a square around each box, mean of it and its mirror image.

    The network's landmarks suit a face of about 64 px best: in portraits of 1024 px, this look at 96 px patches
    more than halves the error of scale in the alignment. Where the network does not see the face again, its first
    landmarks stay.

    Args:
        network: gives the heads for `[B, 3, size, size]`.
        image: the picture, `[3, H, W]`.
        faces: N faces of it.
        size: side in px of the patches.
    """
    limit = faces.boxes.new_tensor([image.shape[2], image.shape[1]])
    middles = faces.centres.clamp(min=torch.zeros_like(limit), max=limit)
    side = (PATCH_MARGIN * faces.sides).ceil().clamp(min=1)  # [N]
    corners = (middles - side[:, None] / 2).round()
    patches = torch.cat(
        [
            F.interpolate(square(image, x, y, length)[None], (size, size), mode="bilinear", antialias=True)
            for (x, y), length in zip(corners.int().tolist(), side.int().tolist(), strict=True)
        ]
    )
    output = network(torch.cat([patches, patches.flip(3)]))
    edge = output.heatmap.shape[3] // 4  # the face's centre lies near the patch's
    inner = output.heatmap[:, 0, edge:-edge, edge:-edge]
    scores, best = inner.flatten(1).max(dim=1)
    row, column = best // inner.shape[2] + edge, best % inner.shape[2] + edge
    _, seen = faces_at(output, torch.arange(len(best), device=best.device), row, column)
    plain, mirrored = seen.chunk(2)
    mirrored = (mirrored * mirrored.new_tensor([-1, 1]) + mirrored.new_tensor([size, 0]))[:, MIRRORED]
    seen = (plain + mirrored) / 2 * (side / size)[:, None, None] + corners[:, None]
    is_seen = (torch.stack(scores.chunk(2)).amin(dim=0) > SEEN_AGAIN)[:, None, None]
    return torch.where(is_seen, seen, faces.landmarks)
