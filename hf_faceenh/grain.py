"""Film grain and sensor noise: how much of it a picture has, at every luma and frequency.

Grain is what is left in the flattest windows of a picture once their shading is taken away.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from hf_faceenh.pictures.luminance import LUMA

LUMAS = np.linspace(0.05, 0.95, 7)  # at which the strength is measured
WINDOW = 16  # px of the photograph
LOOKED_AT = 1600  # windows of a picture, about
FEWEST = 6  # windows of a luma that tell how strong the grain is there
FLATTEST = 25  # percentage of the windows of a luma that are taken to be without texture
LEAST, EVEN = 5, 2.5  # percentage with the least variance, and how many times that grain has: it is nowhere absent
CLIPPED = 0.2  # share of values at black or white from which on a window says nothing about grain
RISE, FALL = 1.2, 2.5  # from luma to luma its deviation grows at most so much faster than √luma, and falls at most
NONE = 2 / 255  # deviation up to which a photograph counts as free of grain


@dataclass(frozen=True, slots=True)
class Grid:
    """Square windows of 16 px, spread evenly over a photograph of `height`×`width` px."""

    height: int
    width: int

    def windows(self, picture: torch.Tensor, factor: float = 1) -> np.ndarray:
        """`[N, C, s, s]`, the windows of the photograph at `factor` times its size, `[C, fH, fW]`; s = 16·f."""
        side, step = round(WINDOW * factor), max(WINDOW // 2, int((self.height * self.width / LOOKED_AT) ** 0.5))
        if min(picture.shape[1:]) < side:
            return np.empty((0, picture.shape[0], side, side), np.float32)
        tops, lefts = (
            (torch.arange(0, max(1, length - WINDOW + 1), step) * factor).long().clamp(max=size - side)
            for length, size in zip((self.height, self.width), picture.shape[1:], strict=True)
        )
        view = picture.unfold(1, side, 1).unfold(2, side, 1)  # [C, fH - s + 1, fW - s + 1, s, s]
        found = view[:, tops[:, None], lefts]  # a copy of no more than is looked at
        return found.flatten(1, 2).transpose(0, 1).float().cpu().numpy()


@dataclass(frozen=True, slots=True, eq=False)
class Grain:
    """The grain of a picture, or of a part of it.

    Args:
        axes: `[3, 3]`, the principal directions of the grain in RGB, as columns: film and toned prints need one of
            them, sensors three.
        power: `[K, 3, s, s // 2 + 1]`, the variance at each of `LUMAS`, along each axis, at each frequency of an s×s
            window, as `numpy.fft.rfft2` lays them out.
        measured: `[K]`, whether there were windows of that luma; the others are interpolated.
    """

    axes: np.ndarray
    power: np.ndarray
    measured: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        """`[K]`, the mean over the three channels."""
        return total(self.power) / 3

    @property
    def deviation(self) -> float:
        """Where it is least, of the lumas that were measured: what is only here and there is texture."""
        return float(self.variance[self.measured].min() ** 0.5)

    @property
    def is_seen(self) -> bool:
        """Whether there is any to speak of."""
        return self.deviation > NONE

    def scaled(self, factors: np.ndarray | float) -> "Grain":
        """With `factors` times the variance, one for each luma or for all."""
        return replace(self, power=self.power * np.reshape(factors, (-1, 1, 1, 1)))

    def at_most(self, variance: np.ndarray) -> "Grain":
        """With no more than `variance`, `[K]`."""
        return self.scaled(np.minimum(1, variance / self.variance.clip(min=1e-12)))


def total(power: np.ndarray) -> np.ndarray:
    """The sum over axes and frequencies, `[K]`; `rfft2` gives most frequencies once for two."""
    times = np.full(power.shape[-1], 2.0)
    times[0] = times[-1] = 1
    return (power * times).sum(axis=(1, 2, 3))


def measure(windows: np.ndarray, axes: np.ndarray | None = None) -> Grain | None:
    """The grain of windows `[N, 3, s, s]`, along its own or the given axes; `None` where too few are of one luma."""
    if not len(windows):
        return None
    detail, variance = _flattest(windows)
    measured = ~np.isnan(variance)
    if not measured.any():
        return None
    if axes is None:
        values = detail.transpose(1, 0, 2, 3).reshape(3, -1)
        axes = np.linalg.eigh(values @ values.T)[1].astype(np.float32)
    taper = np.hanning(detail.shape[-1] + 2)[1:-1].astype(np.float32)
    along = np.tensordot(detail, axes, (1, 0)).transpose(0, 3, 1, 2) * taper * taper[:, None]
    power = _smooth((np.abs(np.fft.rfft2(along)) ** 2).mean(axis=0))[None]
    variance = np.interp(LUMAS, LUMAS[measured], _steady(variance[measured], LUMAS[measured]))
    return Grain(axes, power / max(total(power)[0], 1e-12), measured).scaled(3 * variance)


def _steady(variance: np.ndarray, luma: np.ndarray) -> np.ndarray:
    """Without leaps: from one luma to the next grain changes little, where texture is here and not there."""
    variance = variance.copy()
    for at in range(1, len(luma)):
        variance[at] = min(variance[at], variance[at - 1] * luma[at] / luma[at - 1] * RISE**2)
    for at in range(len(luma) - 2, -1, -1):
        variance[at] = min(variance[at], variance[at + 1] * FALL**2)
    return variance


def _smooth(power: np.ndarray) -> np.ndarray:
    """A power spectrum `[C, s, s // 2 + 1]` smoothed over neighbouring frequencies (Blackman and Tukey 1958): few
    windows give a rugged one."""
    side = power.shape[1]
    lag = np.cos(np.pi * np.fft.fftfreq(side)) ** 2
    return np.fft.rfft2(np.fft.irfft2(power, (side, side)) * lag * lag[:, None]).real.clip(min=0)


def _flattest(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The windows with the least texture, without their shading, and the variance of a channel at each of `LUMAS`."""
    clipped = ((windows < 0.5 / 255) | (windows > 254.5 / 255)).mean(axis=(1, 2, 3)) > CLIPPED
    if clipped.all():
        return windows, np.full(len(LUMAS), np.nan)
    windows = windows[~clipped]
    luma = windows.mean(axis=(2, 3)) @ np.float32(LUMA)
    nearest = np.abs(luma[:, None] - LUMAS).argmin(axis=1)
    detail = _without_shading(windows)
    each = (detail**2).mean(axis=(1, 2, 3))
    variance, chosen = np.full(len(LUMAS), np.nan), np.zeros(len(each), bool)
    for index in range(len(LUMAS)):
        here = nearest == index
        if here.sum() >= FEWEST:
            least, limit = np.percentile(each[here], (LEAST, FLATTEST))
            flat = here & (each <= limit)
            variance[index] = min(each[flat].mean(), EVEN * least)
            chosen |= flat
    return detail[chosen], variance


def _without_shading(windows: np.ndarray) -> np.ndarray:
    """`[N, C, s, s]` minus the quadratic surface that fits each best."""
    y, x = np.mgrid[-1 : 1 : windows.shape[2] * 1j, -1 : 1 : windows.shape[3] * 1j].reshape(2, -1)
    basis = np.linalg.qr(np.stack([x**0, x, y, x * x, x * y, y * y], axis=1))[0].astype(np.float32)
    flat = windows.reshape(*windows.shape[:2], -1)
    return (flat - flat @ basis @ basis.T).reshape(windows.shape)
