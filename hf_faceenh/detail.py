"""How much detail a face really has, however many pixels it has.

A small print scanned at 600 dpi is large and blurred: all that it shows would fit into far fewer pixels. The measure
splits the face into octaves, from the finest on, and asks how much would be missed if the face were downscaled. Grain
is not detail: it is everywhere, whereas detail stands out at lashes, brows, lips and wrinkles. So in every octave the
smooth quarter of the face says how strong the grain is, and only what clearly exceeds it counts.

`python training/calibrate_detail.py --faces FACES` on 60 portraits with 512 px of real detail (US politicians):

| done to the faces | their detail in px: 5 %, median, 95 % |
| --- | --- |
| nothing | 238, 288, 313 |
| downscaled to 256, 128, 64 px | 152, 159, 167; 81, 84, 87; 43, 44, 45 |
| downscaled to 256, 128, 64 px, upscaled to 512 | 191, 233, 273; 130, 149, 171; 77, 88, 102 |
| Gaussian blur of 2 px | 103, 117, 138 |
| JPEG of quality 30 | 252, 284, 310 |
| white noise of 6 levels | 175, 239, 300 |
| 170 px scanned at 1024, grain of 6 levels, JPEG of quality 92 | 120, 137, 155 |
"""

from collections.abc import Iterator

import cv2
import numpy as np
import torch

from hf_faceenh.pictures.luminance import luminance

# Where the face is in an aligned crop, as shares of its side: centre (x, y) and side of the square that is examined.
# Only the ellipse inside it counts; hair and background may be sharper or softer than the face.
CENTRE = (0.5, 0.56)
SQUARE = 0.6
LARGEST = 1024  # px, side of the crop that is examined; a larger one is downscaled first
SMALLEST = 8  # px, side of the square in the coarsest octave that is examined
GRID = 24  # the square's blocks along each side, whose energies are compared
SMOOTH = 0.25  # the share of the blocks that show nothing but grain
GRAIN = 2.0  # energy up to so many times that of the smooth blocks is grain still: it varies with brightness
# The energy, in squared levels of 255, that may be missed: 43 dB, so that with what else happens to the face its PSNR
# stays above 40 dB. So for a face of CONTRAST; less for one that is darker or flatter, though never below a tenth.
MISSED = 3.0
CONTRAST = 40.0  # standard deviation of the blocks' brightness in levels of 255


_AXIS = (np.arange(GRID) + 0.5) / GRID - 0.5
_ELLIPSE = _AXIS[None] ** 2 + _AXIS[:, None] ** 2 < 0.25


def measure(pixels: torch.Tensor, transform: np.ndarray, side: float) -> float:
    """The detail of one face of the photograph `[3, H, W]` in [0, 1].

    Args:
        pixels: the photograph.
        transform: `[2, 3]`, px of the photograph → px of the aligned crop.
        side: of the crop, in px of the photograph.

    Returns:
        the side in px to which the crop could be downscaled without a visible loss; at most its own, and at most
        `LARGEST`.
    """
    square = _square(pixels, transform, side)
    examined = min(side, LARGEST)
    allowed = MISSED * float(np.clip((_blocks(square).std() / CONTRAST) ** 2, 0.1, 1))
    ratio, missed = 1.0, allowed / 100
    for energy in _octaves(square):
        grain = np.quantile(energy, SMOOTH)
        total = missed + float(np.maximum(energy - GRAIN * grain, 0).mean())
        if total > allowed:  # the side lies in this octave, where the sum, which grows like a power, passes the bound
            ratio *= 0.5 ** (np.log(allowed / missed) / np.log(total / missed))
            break
        ratio, missed = ratio / 2, total
    return examined * float(ratio)


def _square(pixels: torch.Tensor, transform: np.ndarray, side: float) -> np.ndarray:
    """The brightness of the face, `[h, w]` float32 in [0, 255]: what lies in the picture of an upright square."""
    matrix, shift = transform[:, :2], transform[:, 2]
    size = side * np.sqrt(np.linalg.det(matrix))  # of the crop in its own px
    centre = np.linalg.solve(matrix, np.array(CENTRE) * size - shift)
    height, width = pixels.shape[1:]
    limit = np.array([width, height])
    low = np.clip(np.floor(centre - SQUARE / 2 * side), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(centre + SQUARE / 2 * side), low + 1, limit).astype(int)
    part = pixels[:, low[1] : high[1], low[0] : high[0]].cpu().float()
    grey = (255 * luminance(part)[0]).numpy()
    return _downscaled(grey, LARGEST / side) if side > LARGEST else grey


def _octaves(picture: np.ndarray) -> Iterator[np.ndarray]:
    """The energy in every block of the ellipse, `[N]` for each octave from the finest on."""
    while min(picture.shape) >= 2 * SMALLEST:
        coarse = _downscaled(picture, 0.5)
        octave = picture - cv2.resize(coarse, picture.shape[::-1], interpolation=cv2.INTER_CUBIC)
        yield _blocks(octave * octave)
        picture = coarse


def _downscaled(picture: np.ndarray, factor: float) -> np.ndarray:
    width, height = (max(1, round(factor * length)) for length in picture.shape[::-1])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _blocks(picture: np.ndarray) -> np.ndarray:
    """The means of the ellipse's blocks, `[N]`."""
    return cv2.resize(picture, (GRID, GRID), interpolation=cv2.INTER_AREA)[_ELLIPSE]
