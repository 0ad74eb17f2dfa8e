"""The damage of printing and scanning: screened dots, and the patterns of paper and scanner."""

import math

import numpy as np

from hf_faceenh.learning.degradation.pixels import GREY, normal, positions, px, smooth_field

FINEST_SCREEN, COARSEST_SCREEN = 2.5, 6.0  # px from dot to dot
ANGLES = (15, 75, 0)  # degrees of the cyan, magenta and yellow screens: what takes red, green and blue away
BLACK_ANGLE = 45
WORST_PATTERN = 0.16  # amplitude


def halftone(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """The dots of a newspaper (black; the paper keeps the picture's colours, so that grey pictures stay the only grey
    ones) or a magazine (cyan, magenta, yellow), 2.5 to 6 px apart, coarser and harder as the strength rises."""
    period = px(image, FINEST_SCREEN + (COARSEST_SCREEN - FINEST_SCREEN) * strength * rng.uniform(0.6, 1))
    period, turn, hardness = max(period, 2.2), rng.uniform(-20, 20), 0.8 + 1.2 * strength
    if rng.random() < 0.5:
        ink = (image @ GREY)[..., None]
        screens = _screen(image, period, BLACK_ANGLE + turn)[..., None]
    else:
        ink, screens = image, np.stack([_screen(image, period, angle + turn) for angle in ANGLES], axis=2)
    dots = ((ink - screens) * np.float32(hardness) + np.float32(0.5)).clip(0, 1)
    return (image + np.float32(0.85 * strength) * (dots - ink)).clip(0, 1)


def _screen(image: np.ndarray, period: float, angle: float) -> np.ndarray:
    """Thresholds from 0 to 1 of a screen of round dots, `[H, W]` float32."""
    return 0.5 + (_wave(image, period, angle) + _wave(image, period, angle + 90)) / 4


def _wave(image: np.ndarray, period: float, angle: float, phase: float = 0) -> np.ndarray:
    """A plane wave from -1 to 1, `[H, W]` float32; its period in px, the direction it runs in degrees."""
    x, y = (place * (max(image.shape[:2]) * math.pi / period) for place in positions(image))
    across, down = x * math.cos(math.radians(angle)) + phase, y * math.sin(math.radians(angle))
    return np.cos(across) * np.cos(down) - np.sin(across) * np.sin(down)  # cos(across + down): no cosine per pixel


def scanner(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Bands of a scanner's line of sensors, moiré of a screen under it, or the texture of the paper, of an amplitude
    up to 0.16."""
    kind = rng.choice(["bands", "moiré", "paper"])
    pattern = {"bands": _bands, "moiré": _moire, "paper": _paper}[kind](image, rng)
    return (image * (1 + np.float32(WORST_PATTERN * strength) * pattern)).clip(0, 1)


def _bands(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lines of uneven brightness, `[H, 1, 1]` or `[1, W, 1]`, in some scanners coloured."""
    along = int(rng.integers(2))
    count, channels = image.shape[along], int(rng.choice([1, 3]))
    width = max(1, round(px(image, rng.uniform(1, 6))))
    lines = normal((-(-count // width), channels), rng).repeat(width, axis=0)[:count] / 2
    waves = np.sin(np.arange(count) * 2 * math.pi / px(image, rng.uniform(8, 60)) + rng.uniform(0, 6))[:, None] / 2
    bands = (lines + waves).astype(np.float32)
    return bands[:, None] if along == 0 else bands[None]


def _moire(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Wide waves that bend, `[H, W, 3]`, a little apart in each colour."""
    period, angle = px(image, rng.uniform(5, 30)), rng.uniform(0, 180)
    bend = smooth_field(image, 2, rng) * np.float32(rng.uniform(0, 2))
    phases = rng.uniform(0, 1.5) * np.arange(3)
    wave, quarter = _wave(image, period, angle), _wave(image, period, angle, -math.pi / 2)
    wave, quarter = wave * np.cos(bend) - quarter * np.sin(bend), quarter * np.cos(bend) + wave * np.sin(bend)
    return np.stack([wave * np.float32(math.cos(p)) - quarter * np.float32(math.sin(p)) for p in phases], axis=2)


def _paper(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A honeycomb or a canvas in regular cells, or fibres, `[H, W, 1]`."""
    period, angle = px(image, rng.uniform(4, 10)), rng.uniform(0, 90)
    if rng.random() < 0.6:
        apart = rng.choice([60, 90])
        texture = _wave(image, period, angle) * _wave(image, period, angle + apart)
    else:
        texture = smooth_field(image, max(2, round(max(image.shape[:2]) / period)), rng)
    return texture[..., None]
