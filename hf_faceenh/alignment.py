"""Five points → similarity transform → crop, and back.

Coordinates are (x, y) in px, pixel centres at half-integers. A transform is a 2×3 matrix [A | t] that maps source to
target: p ↦ A·p + t.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F

# (x, y) of image-left eye, image-right eye, nose, image-left and image-right mouth corner where published face
# restorers have them in an aligned face (FFHQ layout), in units of the crop's side.
FFHQ_TEMPLATE = tuple(
    (x / 512, y / 512)
    for x, y in ((192.98, 239.95), (318.90, 240.19), (256.63, 314.02), (201.26, 371.41), (313.09, 371.15))
)

SAMPLES = 4  # along each axis of a pixel, at least, where many px of the source become one: fewer would blur
BAND = 2**20  # samples that are taken at once


def similarity_transform(source_points: torch.Tensor, target_points: torch.Tensor) -> torch.Tensor:
    """The rotation, uniform scale and shift that take `source_points` `[N, K, 2]` nearest to `target_points` `[K, 2]`.

    Least squares without reflection (Umeyama 1991), which has a closed form in the plane. Differentiable.

    Returns:
        `[N, 2, 3]` float32.

    Raises:
        ValueError: where all points of a face coincide.
    """
    source, target = source_points.float(), target_points.to(source_points.device, torch.float32)
    source_mean, target_mean = source.mean(dim=1, keepdim=True), target.mean(dim=0)
    s, t = source - source_mean, target - target_mean
    spread = s.square().sum(dim=(1, 2))
    if (spread < 1e-8).any():
        raise ValueError("similarity_transform expects landmarks that differ; got a face whose points coincide.")
    a = (s * t).sum(dim=(1, 2)) / spread  # scale · cos
    b = (s[..., 0] * t[..., 1] - s[..., 1] * t[..., 0]).sum(dim=1) / spread  # scale · sin
    matrix = torch.stack([torch.stack([a, -b], dim=1), torch.stack([b, a], dim=1)], dim=1)
    shift = target_mean[None, :, None] - matrix @ source_mean.transpose(1, 2)
    return torch.cat([matrix, shift], dim=2)


def invert(transforms: torch.Tensor) -> torch.Tensor:
    """The transforms `[…, 2, 3]` the other way round."""
    matrix = torch.linalg.inv(transforms[..., :2])
    return torch.cat([matrix, -matrix @ transforms[..., 2:]], dim=-1)


def for_upscaled(transforms: torch.Tensor, factor: float) -> torch.Tensor:
    """The transforms `[…, 2, 3]` of a source that is `factor` times as large, to the same target."""
    return torch.cat([transforms[..., :2] / factor, transforms[..., 2:]], dim=-1)


def scale_of(transforms: torch.Tensor) -> torch.Tensor:
    """Target px per source px of similarity transforms `[…, 2, 3]`."""
    return torch.linalg.det(transforms[..., :2]).abs().sqrt()


def transform_points(transform: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """`points` `[…, 2]` through one transform `[2, 3]`."""
    return points @ transform[:, :2].T + transform[:, 2]


def warp(
    picture: torch.Tensor,
    transform: torch.Tensor,
    height: int,
    width: int,
    x: int = 0,
    y: int = 0,
    outside: Literal["reflection", "zeros"] = "reflection",
) -> torch.Tensor:
    """What the transform `[2, 3]` makes of `picture` `[C, H, W]`: the window `[C, height, width]` whose first corner
    is (x, y) of the target.

    Bicubic (a = −0.75, as OpenCV's) where it upscales; where it downscales, the mean of enough bicubic samples per
    pixel, so that nothing aliases. From a ratio of 8 on, the source is first averaged over blocks of whole pixels, so
    that the work depends on the target's size. Beyond the picture's border its mirror image, or 0 with
    `outside="zeros"`. Float32, differentiable.
    """
    ratio = 1 / float(scale_of(transform.detach()))
    back = invert(transform.cpu().double())  # on the CPU: float32 is too coarse for large pictures, MPS has no other
    if ratio >= 2 * SAMPLES:
        block = int(ratio / SAMPLES)
        picture, back = _averaged(picture, back, block, (x, y, x + width, y + height), outside)
        ratio /= block
    picture, samples = picture.float(), max(1, math.ceil(ratio - 1e-3))
    rows = max(1, BAND // (width * samples**2))
    bands = [
        _sampled(picture, back, min(rows, y + height - top), width, x, top, samples, outside)
        for top in range(y, y + height, rows)
    ]
    return torch.cat(bands, dim=1) if len(bands) > 1 else bands[0]


def _sampled(
    picture: torch.Tensor, back: torch.Tensor, height: int, width: int, x: int, y: int, samples: int, outside: str
) -> torch.Tensor:
    """A window of the target as in `warp`, each pixel the mean of `samples`² bicubic ones; `back` `[2, 3]` float64
    takes the target to the picture."""
    step = 1 / samples
    xs = x + step * (torch.arange(width * samples, dtype=torch.float64) + 0.5)
    ys = y + step * (torch.arange(height * samples, dtype=torch.float64) + 0.5)
    # A·(x, y) + t, as a sum of a column's and a row's share, in grid_sample's units: −1 and 1 are the outer borders
    scaled = 2 * back / torch.tensor([[picture.shape[2]], [picture.shape[1]]])
    rows = ys[:, None] * scaled[:, 1] + scaled[:, 2] - 1
    grid = (xs[:, None] * scaled[:, 0] + rows[:, None]).float().to(picture.device)
    sampled = F.grid_sample(picture[None], grid[None], mode="bicubic", padding_mode=outside, align_corners=False)
    return F.avg_pool2d(sampled, samples)[0] if samples > 1 else sampled[0]


def _averaged(
    picture: torch.Tensor, back: torch.Tensor, block: int, window: tuple[int, int, int, int], outside: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a window of the target needs of the picture, every `block` × `block` px of it averaged.

    Args:
        picture: `[C, H, W]`.
        back: `[2, 3]` float64, px of the target → px of the picture.
        block: px; blocks begin at whole multiples of it, so that windows which overlap see the same.
        window: x1, y1, x2, y2 in px of the target.
        outside: as in `warp`; what is beyond the picture's border becomes part of the result.

    Returns:
        the blocks `[C, h, w]` float32, and the transform from px of the target to these.
    """
    x1, y1, x2, y2 = window
    corners = transform_points(back.detach(), back.new_tensor([[x1, y1], [x2, y1], [x1, y2], [x2, y2]])) / block
    first = corners.amin(dim=0).floor().long() - 2  # of a bicubic sample's 4 × 4 px, two lie to either side
    last = corners.amax(dim=0).ceil().long() + 2
    columns, rows = (
        _mirrored(block * torch.arange(start, end)[:, None] + torch.arange(block), size, outside)
        for start, end, size in zip(first.tolist(), last.tolist(), (picture.shape[2], picture.shape[1]), strict=True)
    )
    left, right = (int(bound) for bound in columns.clamp(0, picture.shape[2] - 1).aminmax())
    part, columns = picture[:, :, left : right + 1], columns - left
    bands = rows.split(max(1, BAND // (block * part.shape[2])))
    bands = [_mean_rows(_mean_rows(part, band).transpose(1, 2), columns).transpose(1, 2) for band in bands]
    return torch.cat(bands, dim=1), back / block - F.pad(first[:, None].double(), (2, 0))


def _mirrored(places: torch.Tensor, size: int, outside: str) -> torch.Tensor:
    """Places beyond the border as those of their mirror images, if they have one."""
    if outside == "zeros":
        return places
    places = places % (2 * size)
    return torch.minimum(places, 2 * size - 1 - places)


def _mean_rows(picture: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The means `[C, N, W]`, float32, of sets of the rows of `picture` `[C, H, W]`.

    Args:
        places: of each set's rows, `[N, K]`; one that is beyond the border stands for zeros.
    """
    places = places.to(picture.device)
    known = places.clamp(0, picture.shape[1] - 1)
    return (picture[:, known].float() * (known == places)[:, :, None]).mean(dim=2)


def crop_faces(image: torch.Tensor, transforms: torch.Tensor, size: int) -> torch.Tensor:
    """The aligned faces of `image` `[3, H, W]`: `[N, 3, size, size]` float32 in [0, 1].

    `transforms` `[N, 2, 3]` map the image's px to the crop's px.
    """
    if not len(transforms):
        return image.new_zeros(0, 3, size, size, dtype=torch.float32)
    return torch.stack([warp(image, transform, size, size) for transform in transforms]).clamp(0, 1)
