"""Parsing + enhanced face + super-resolved photograph → result."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

from hf_faceenh.alignment import for_upscaled, invert, transform_points, warp

Regions = Literal["head", "face"]  # what is taken of an enhanced face

# Regions of CelebAMask-HQ (Lee et al. 2020), and what its derivatives call them, that are face; neck and cloth are not
# even head. Glasses cover the eyes: left out, they would stay blurred in the middle of the face.
FACE_REGIONS = frozenset(
    {"skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "eye_g", "mouth", "u_lip", "l_lip", "glasses"}
)
HEAD_REGIONS = FACE_REGIONS | {"hair", "hat", "l_ear", "r_ear", "ear_r"}
# Standard deviation of the mask's blur, as a share of the crop's side, hence of the face's size; and the mask is 0 up
# to the first, untouched from the second share of the crop's side on. The face ends where it ends; hair and hats go on
# beyond the crop, and the parser is less certain of them.
FEATHER, BORDER = 0.03, (0.02, 0.10)
HEAD_FEATHER, HEAD_BORDER = 0.05, (0.0, 0.20)
FINE = 3  # px of a Gaussian's standard deviation
STRIP = 2_000_000  # pixels of the photograph that are fused at once
REACH = 2  # px of a mask to either side of a bicubic sample
FAINTEST = 0.05  # a mask that is nowhere above this shows no face


def face_labels(id2label: Mapping[int, str], regions: Regions = "face") -> list[int]:
    """The label ids whose names are regions of the face, or of the head.

    Raises:
        ValueError: where no name is one of the face.
    """
    wanted = HEAD_REGIONS if regions == "head" else FACE_REGIONS
    ids = [int(index) for index, name in id2label.items() if name.lower() in wanted]
    if not any(name.lower() in FACE_REGIONS for name in id2label.values()):
        names = ", ".join(str(name) for name in list(id2label.values())[:5])
        raise ValueError(
            f"The parser's id2label names no region of a face ({names}, …); expected CelebAMask-HQ's words such as "
            "skin, nose, l_eye. Set parser.config.id2label."
        )
    return ids


def region_mask(probabilities: torch.Tensor, id2label: Mapping[int, str], regions: Regions = "head") -> torch.Tensor:
    """How much of each pixel to take from the enhanced face, `[N, 1, S, S]` in [0, 1].

    The face as in `face_mask`; the rest of the head with a softer edge, and less of it the nearer it is to the crop's
    border. Of a parser that does not tell hair, hats and ears from the background, the face alone.

    Args:
        probabilities: of each label, `[N, L, S, S]`, summing to 1 over the labels.
        id2label: their names.
        regions: "head" or "face".

    Raises:
        ValueError: where no name is a region of the face.
    """
    face, wanted = face_labels(id2label), face_labels(id2label, regions)
    mask = face_mask(probabilities, face)
    if wanted == face:
        return mask
    return torch.maximum(mask, face_mask(probabilities, wanted, HEAD_FEATHER, HEAD_BORDER))


def face_mask(
    probabilities: torch.Tensor,
    labels: Sequence[int],
    feather: float = FEATHER,
    border: tuple[float, float] = BORDER,
) -> torch.Tensor:
    """How much of each pixel to take from the enhanced face.

    Args:
        probabilities: of each label, `[N, L, S, S]`, summing to 1 over the labels.
        labels: which labels are face, see `face_labels`.
        feather: standard deviation of the blur, in sides of the crop.
        border: the mask is 0 up to the first and untouched from the second distance from the border on, likewise.

    Returns:
        `[N, 1, S, S]` in [0, 1]: feathered, and 0 along the crop's border.
    """
    size = probabilities.shape[-1]
    mask = gaussian_blur(sum(probabilities[:, [label]] for label in labels), feather * size)
    inside = (torch.arange(size, device=mask.device, dtype=mask.dtype) + 0.5) / size
    inside = torch.minimum(inside, 1 - inside)
    ramp = ((inside - border[0]) / (border[1] - border[0])).clamp(0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)  # smooth at both ends: no edge
    return (mask * ramp * ramp[:, None]).clamp(0, 1)


def gaussian_blur(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    """`[N, C, H, W]` blurred by a Gaussian of `sigma` px, the border pixels repeated outside.

    A wide one is computed at a smaller size, where it still has `FINE` px: on masks less than 1/200 off.
    """
    factor = 1
    while sigma >= 2 * factor * FINE and all(side % (2 * factor) == 0 for side in picture.shape[2:]):
        factor *= 2
    # The mean over a block and the interpolation blur as well: together by a variance of factor²/4.
    finer = math.sqrt(sigma**2 - factor**2 / 4) / factor if factor > 1 else sigma
    radius = math.ceil(3 * finer)
    around = factor * (radius + 1)
    padded = F.avg_pool2d(F.pad(picture, (around,) * 4, mode="replicate"), factor)
    offsets = torch.arange(-radius, radius + 1, device=picture.device, dtype=picture.dtype)
    kernel = torch.exp(-0.5 * (offsets / finer) ** 2)
    kernel = (kernel / kernel.sum()).expand(picture.shape[1], 1, 1, -1)
    blurred = F.conv2d(padded, kernel, groups=picture.shape[1])
    blurred = F.conv2d(blurred, kernel.transpose(2, 3), groups=picture.shape[1])
    return F.interpolate(blurred, scale_factor=factor, mode="bilinear")[..., factor:-factor, factor:-factor]


def fuse(
    photo: torch.Tensor,
    faces: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
    transforms: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Lays enhanced faces into the super-resolved photograph, in place.

    Where faces overlap each counts by its mask, not by its turn: result = photo + Σ wᵢ·(faceᵢ − photo) with
    wᵢ = maskᵢ / max(1, Σ masks). Works in strips of the photograph, from top to bottom, so that no more is in memory
    than the faces of one strip.

    Args:
        photo: `[3, H, W]` in [0, 1]; becomes the result.
        faces: `[3, s, s]` in [0, 1] each. Each is asked for once, when its strip comes, and kept until its last
            strip is done: they may be made on demand.
        masks: `[1, m, m]` in [0, 1] each, over the same square as its face.
        transforms: `[2, 3]` each, px of the photograph → px of a crop that is scaled to side 1.
    """
    windows = [_window(photo, mask, transform) for mask, transform in zip(masks, transforms, strict=True)]
    rows = max(1, STRIP // photo.shape[2])
    at_hand: dict[int, torch.Tensor] = {}
    for top in range(0, photo.shape[1], rows):
        bottom = min(top + rows, photo.shape[1])
        here = {
            index: (x1, max(y1, top), x2, min(y2, bottom))
            for index, (x1, y1, x2, y2) in enumerate(windows)
            if y1 < bottom and y2 > top
        }
        at_hand = {index: at_hand[index] if index in at_hand else faces[index] for index in here}
        layers = [_Layer(at_hand[index], masks[index], transforms[index], window) for index, window in here.items()]
        _fuse_strip(photo, top, bottom, layers)
    return photo


def coverage(
    masks: Sequence[torch.Tensor], transforms: Sequence[torch.Tensor], like: torch.Tensor, top: int = 0
) -> torch.Tensor:
    """Where `fuse` lays faces, whatever their strength: 1 inside a face, 0 outside all of them.

    Args:
        masks, transforms: as for `fuse`.
        like: `[C, h, W]`, rows of a photograph.
        top: the first of these rows.

    Returns:
        `[1, h, W]` in [0, 1].
    """
    share = torch.zeros_like(like[:1])
    down = torch.tensor([0.0, top])
    for mask, transform in zip(masks, transforms, strict=True):
        shifted = torch.cat([transform[:, :2], transform_points(transform, down.to(transform)[None]).T], dim=1)
        mask = mask / mask.max().clamp(min=FAINTEST)
        window = _window(share, mask, shifted)
        here = _part(share, window)
        here.copy_(torch.maximum(here, _place(mask, shifted, window)))
    return share


Window = tuple[int, int, int, int]  # x1, y1, x2, y2 in px of the photograph


class _Layer(NamedTuple):
    """One face in one strip; `window` is the part of its place that lies in the strip."""

    face: torch.Tensor
    mask: torch.Tensor
    transform: torch.Tensor
    window: Window


def _fuse_strip(photo: torch.Tensor, top: int, bottom: int, layers: Sequence[_Layer]) -> None:
    if not layers:
        return
    total = photo.new_zeros(1, bottom - top, photo.shape[2])
    placed = [_place(layer.mask, layer.transform, layer.window) for layer in layers]
    for mask, layer in zip(placed, layers, strict=True):
        _part(total, layer.window, top).add_(mask)
    changes = [  # all of them before the first is added: each is from the photograph as it was
        _place(layer.face, layer.transform, layer.window)
        .sub_(_part(photo, layer.window))
        .mul_(mask / _part(total, layer.window, top).clamp(min=1))
        for mask, layer in zip(placed, layers, strict=True)
    ]
    for change, layer in zip(changes, layers, strict=True):
        _part(photo, layer.window).add_(change).clamp_(0, 1)


def _window(photo: torch.Tensor, mask: torch.Tensor, transform: torch.Tensor) -> Window:
    """The smallest window of the photograph that holds all of the crop's square that the mask lets through."""
    x1, y1, x2, y2 = (edge / mask.shape[-1] for edge in _bounds(mask[0]))
    square = torch.tensor([[x1, y1], [x2, y1], [x1, y2], [x2, y2]], device=transform.device)
    corners = transform_points(invert(transform), square)
    limit = torch.tensor([photo.shape[2], photo.shape[1]], device=corners.device)
    low = corners.amin(dim=0).floor().clamp(min=0).minimum(limit - 1)
    high = corners.amax(dim=0).ceil().minimum(limit).maximum(low + 1)
    return (*(int(v) for v in low), *(int(v) for v in high))


def _bounds(mask: torch.Tensor) -> Window:
    """Where a mask `[m, m]` lets something through, and what bicubic samples see beyond that; in px of the mask."""
    spans = []
    for along in (mask.amax(dim=0), mask.amax(dim=1)):
        there = along.nonzero().flatten().tolist() or [0]
        spans.append((max(there[0] - REACH, 0), min(there[-1] + 1 + REACH, len(mask))))
    (x1, x2), (y1, y2) = spans
    return x1, y1, x2, y2


def _place(crop: torch.Tensor, transform: torch.Tensor, window: Window) -> torch.Tensor:
    """A crop `[C, s, s]` at its place in the window, 0 outside its square."""
    x1, y1, x2, y2 = window
    to_photo = for_upscaled(invert(transform), crop.shape[-1])
    return warp(crop, to_photo, y2 - y1, x2 - x1, x1, y1, outside="zeros").clamp_(0, 1)


def _part(picture: torch.Tensor, window: Window, top: int = 0) -> torch.Tensor:
    """The window of a picture whose first row is row `top` of the photograph."""
    x1, y1, x2, y2 = window
    return picture[:, y1 - top : y2 - top, x1:x2]
