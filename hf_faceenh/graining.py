"""One picture, one texture: grain is laid over the enhanced faces, and over what is around them, until both have as
much as is wanted."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from hf_faceenh.grain import LUMAS, Grain, Grid, measure
from hf_faceenh.pictures.luminance import luminance

UNSEEN = 0.4 / 255  # deviation up to which a difference does not matter
PERIODS = (768, 625)  # px; without a common factor, so the sum of two tiles repeats after 480,000 px only
STRIP = 2_000_000  # pixels that get their grain at once
CELL = 8  # px of the photograph for which it is decided at once whether they are face
EDGE = 0.02  # nearer to black or white than this there is less grain, and none at black and white

# Called as inside(rows, top, factor): how much of each pixel is enhanced face, [1, h, W] in [0, 1], for rows [C, h, W]
# from row `top` on, of the photograph at `factor` times its size.
Inside = Callable[[torch.Tensor, int, float], torch.Tensor]


def match_grain(result: torch.Tensor, pixels: torch.Tensor, inside: Inside, amount: float | None) -> torch.Tensor:
    """Lays grain over a finished picture, in place: at every frequency what is wanted minus what is there.

    Args:
        result: `[3, fH, fW]` in [0, 1], with the enhanced faces.
        pixels: the photograph, `[3, H, W]`.
        inside: where the enhanced faces are.
        amount: how much of the photograph's grain is wanted, as a share of its deviation; with `None` the faces get as
            much as there is around them. Where one part has more than that already, the other gets as much.
    """
    face, around = _lacking(result, pixels, inside, amount)
    if face is None and around is None:
        return result
    layers = [None if one is None else _Layer.of(one, seed, result.device) for seed, one in enumerate((face, around))]
    factor = result.shape[2] / pixels.shape[2]
    rows = max(1, STRIP // result.shape[2])
    for top in range(0, result.shape[1], rows):
        strip = result[:, top : top + rows]
        share = inside(strip, top, factor)
        # where an enhanced face is laid over the photograph by half, half of the photograph's grain is left
        for layer, weight in zip(layers, ((1 - (1 - share) ** 2).sqrt(), 1 - share), strict=True):
            if layer is not None:
                layer.add(strip, top, weight)
        strip.clamp_(0, 1)
    return result


def _lacking(
    result: torch.Tensor, pixels: torch.Tensor, inside: Inside, amount: float | None
) -> tuple[Grain | None, Grain | None]:
    """What the enhanced faces lack, and what is around them lacks; `None` for nothing that one would see."""
    grid = Grid(*pixels.shape[1:])
    share = grid.windows(inside(pixels[:, ::CELL, ::CELL], 0, 1 / CELL), 1 / CELL)
    if amount is None and not share.any():
        return None, None
    windows = grid.windows(pixels)
    is_face, is_around = share.min(axis=(1, 2, 3)) > 0.9, share.max(axis=(1, 2, 3)) < 0.05
    own = _own_grain(windows, is_face)
    if own is None:
        return None, None
    shown = grid.windows(result, result.shape[2] / pixels.shape[2])
    face, around = (measure(shown[which], own.axes) for which in (is_face, is_around))
    upscaled = measure(_resized(windows, shown.shape[-1]), own.axes).at_most(own.variance)
    if amount is not None:
        there = [part.power for part in (face, around) if part is not None]
        target = np.maximum.reduce([upscaled.power * amount**2, *there])
    elif around is not None:
        target = around.at_most(upscaled.variance).power
    else:
        return None, None
    return tuple(_difference(own.axes, target, part) for part in (face, around))


def _own_grain(windows: np.ndarray, is_face: np.ndarray) -> Grain | None:
    """The photograph's grain; `None` where it has none to speak of. What its skin does not show is texture."""
    own = measure(windows)
    if own is None:
        return None
    skin = measure(windows[is_face], own.axes)
    if skin is not None:
        own = own.at_most(np.where(skin.measured, skin.variance, np.inf))
        own = replace(own, measured=skin.measured)
    return own if own.is_seen else None


def _resized(windows: np.ndarray, side: int) -> np.ndarray:
    if side == windows.shape[-1]:
        return windows
    return F.interpolate(torch.from_numpy(windows), size=(side, side), mode="bicubic").numpy()


def _difference(axes: np.ndarray, target: np.ndarray, part: Grain | None) -> Grain | None:
    """What a part lacks; a part that is too small to be measured is taken to have no grain."""
    power = target if part is None else (target - part.power).clip(min=0)
    lacking = Grain(axes, power, np.ones(len(power), bool))
    return lacking if lacking.variance.max() ** 0.5 > UNSEEN else None


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """Grain without end: the sum of two random fields of deviation 1 that repeat with different periods.

    Args:
        tiles: `[3, T, T]` each.
        deviation: of the grain at each of 256 lumas.
    """

    tiles: list[torch.Tensor]
    deviation: torch.Tensor

    @classmethod
    def of(cls, grain: Grain, seed: int, device: torch.device) -> "_Layer":
        luma = np.linspace(0, 1, 256)
        taper = (np.minimum(luma, 1 - luma) / EDGE).clip(max=1)
        deviation = np.interp(luma, LUMAS, grain.variance) ** 0.5 * taper
        tiles = [_tile(grain, period, seed) for period in PERIODS]
        return cls([torch.as_tensor(tile, device=device) for tile in tiles], torch.as_tensor(deviation, device=device))

    def add(self, strip: torch.Tensor, top: int, weight: torch.Tensor) -> None:
        """Adds `weight` `[1, h, W]` times the grain to rows of a picture from row `top` on, in place."""
        luma = luminance(strip)[0]
        weight = weight * self.deviation.to(weight.dtype)[(luma * 255).round().long().clamp(0, 255)]
        for tile in self.tiles:
            rows, columns = (
                (torch.arange(length, device=strip.device) + start) % tile.shape[-1]
                for length, start in zip(strip.shape[1:], (top, 0), strict=True)
            )
            strip += weight * tile[:, rows[:, None], columns]


def _tile(grain: Grain, period: int, seed: int) -> np.ndarray:
    """A random field with the grain's spectrum, `[3, period, period]` in RGB; always the same one."""
    side = grain.power.shape[2]
    correlation = np.fft.irfft2(grain.power.sum(axis=0), (side, side))  # [3, s, s], zero lag first
    lags = np.fft.fftfreq(side, 1 / side).astype(int)
    padded = np.zeros((3, period, period), np.float32)
    padded[:, lags[:, None], lags] = correlation
    amplitude = np.fft.rfft2(padded).real.clip(min=0) ** 0.5
    field = np.fft.irfft2(_white(period, seed) * amplitude, (period, period))
    field = np.tensordot(grain.axes.astype(np.float32), field, 1)
    return field / (len(PERIODS) * (field**2).mean()) ** 0.5


@cache  # half the time of a tile; 24 MB in all
def _white(period: int, seed: int) -> np.ndarray:
    """The spectrum of white noise `[3, period, period]`, of deviation 1."""
    white = np.random.default_rng([seed, period]).standard_normal((3, period, period))
    return np.fft.rfft2(white.astype(np.float32))
