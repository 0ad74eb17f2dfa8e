"""Pictures without colours: grey ones, and those of one tone such as sepia. They stay so.

The colour of a picture of one tone is a smooth curve of its luminance. Such a picture goes through the pipeline as
its luminance, everything made from it is made grey again, and the curve is put back at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from hf_faceenh.pictures.luminance import LUMA, luminance

SAMPLES = 512  # along the longer side that are looked at
BLOCK = 16  # samples along a block's side: noise of the colours, and JPEG's, averages out over it
BINS = 256  # of luminance, in which the curve is estimated
WIDTHS = 64, 16, 4, 1  # standard deviations in bins of the means; the wider where the finer have few samples
LEVELS = 4096  # of luminance that the curve is read at; it is smooth, so that 16 bits a channel do not show them
STRIP = 2**20  # px that are worked on at once

# How far the blocks' colours may be from the curve in a picture of one tone, in levels of 255: where the tone is weak,
# and where it is strong, since JPEG blurs the colours of a strong one. No further than that, for a photograph in
# strongly coloured light is not far from one tone.
WEAK, STRONG = 7.0, 17.0  # distance of the tone from grey
TYPICAL = 0.75, 1.8  # root of the mean square
LARGEST = 3.0, 6.4
GREY = 1.0  # a tone that is no further from grey, in the mean, is grey: noise, or a scanner's cast


@dataclass(frozen=True, slots=True, eq=False)
class Tone:
    """The one tone of a picture.

    Args:
        curve: `[3, LEVELS]`, what R, G and B differ from the luminance at each of its levels from 0 to 1.
    """

    curve: torch.Tensor

    def put_back_(self, picture: torch.Tensor) -> torch.Tensor:
        """Gives a picture `[3, H, W]` in [0, 1] of any colours this tone, in place."""
        curve = self.curve.to(picture.device)
        for strip in _strips(picture):
            grey = luminance(strip)
            levels = (grey[0] * (LEVELS - 1)).round_().clamp_(0, LEVELS - 1).to(torch.int32)
            for channel, offsets in zip(strip, curve, strict=True):
                torch.add(grey[0], offsets[levels], out=channel)
        return picture.clamp_(0, 1)


def as_grey(picture: torch.Tensor) -> torch.Tensor:
    """The luminance of `[3, H, W]` in all three channels, which share its memory."""
    grey = picture.new_empty(1, *picture.shape[1:])
    for part, strip in zip(_strips(grey), _strips(picture), strict=True):
        part.copy_(luminance(strip))
    return grey.expand_as(picture)


def find_tone(picture: torch.Tensor, alpha: torch.Tensor | None = None) -> Tone | None:
    """The one tone of a picture; `None` for one in colour.

    Looks at samples of the picture: their colours' mean at each luminance is the curve, and the picture has one tone
    if no block of samples departs from it by more than noise and JPEG do.

    Args:
        picture: `[3, H, W]` in [0, 1].
        alpha: `[1, H, W]`; what is quite transparent does not count.
    """
    samples, visible = _samples(picture, alpha)
    if not visible.any():
        return None
    grey = np.tensordot(np.float32(LUMA), samples, axes=1)  # [h, w]
    colours = samples[[0, 2]] - grey  # R − Y and B − Y; G − Y follows from them
    curve = _curve(grey[visible], colours[:, visible])  # [2, BINS]
    at = np.arange(BINS)
    expected = np.stack([np.interp(grey, at, each) for each in curve])
    # how far beside the curve a colour lies, not above or below it: where highlights are clipped it is steep
    slope = np.interp(grey, at, np.linalg.norm(np.gradient(curve, axis=1), axis=0))
    rest = (colours - expected) / np.sqrt(1 + slope**2)
    distances = np.linalg.norm(_block_means(rest * visible), axis=0)
    strength = _root_mean_square(np.linalg.norm(expected[:, visible], axis=0))
    if _root_mean_square(distances) > np.interp(strength, (WEAK, STRONG), TYPICAL):
        return None
    if distances.max() > np.interp(strength, (WEAK, STRONG), LARGEST):
        return None
    if strength <= GREY:
        curve = np.zeros_like(curve)
    red, blue = (np.interp(np.linspace(0, 255, LEVELS), at, each) / 255 for each in curve)
    green = -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1]  # so that the luminance stays
    return Tone(torch.from_numpy(_displayable(np.stack([red, green, blue])).astype(np.float32)))


def _displayable(curve: np.ndarray) -> np.ndarray:
    """The curve `[3, LEVELS]` drawn towards grey at the ends of luminance, where its colours would be clipped."""
    grey = np.linspace(0, 1, LEVELS)
    room = np.where(curve < 0, grey, 1 - grey) / np.abs(curve).clip(1e-9)
    return curve * room.min(axis=0).clip(max=1)


def _samples(picture: torch.Tensor, alpha: torch.Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """Levels of 255 `[3, h, w]`, and which of them can be seen, `[h, w]`."""
    step = -(-max(picture.shape[1:]) // SAMPLES)
    grid = np.s_[:, step // 2 :: step, step // 2 :: step]
    samples = 255 * picture[grid].float().cpu().numpy()
    return samples, np.ones(samples.shape[1:], bool) if alpha is None else alpha[grid][0].cpu().numpy() > 0


def _curve(grey: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The mean of `colours` `[2, N]` around the middle of each bin of luminance, `[2, BINS]`."""
    bins = grey.round().astype(int)
    count = np.bincount(bins, minlength=BINS)
    total = np.stack([np.bincount(bins, each, minlength=BINS) for each in colours])
    few = 8 + len(grey) / 5000  # so many samples weigh as much as the wider mean
    curve = total.sum(axis=1, keepdims=True) / len(grey)
    for width in WIDTHS:
        weights = np.exp(-0.5 * ((np.arange(BINS)[:, None] - np.arange(BINS)) / width) ** 2)
        curve = (total @ weights + few * curve) / (count @ weights + few)
    return curve


def _block_means(samples: np.ndarray) -> np.ndarray:
    """The means `[C, n]` of blocks of about `BLOCK` × `BLOCK` samples of `[C, h, w]`."""
    height, width = (max(1, side // BLOCK) for side in samples.shape[1:])
    return np.stack([cv2.resize(each, (width, height), interpolation=cv2.INTER_AREA).ravel() for each in samples])


def _strips(picture: torch.Tensor) -> Sequence[torch.Tensor]:
    return picture.split(max(1, STRIP // picture.shape[2]), dim=1)


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))
