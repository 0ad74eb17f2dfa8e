"""The damage of handling: scratches, hairs, dust, cracks and tears."""

import math

import cv2
import numpy as np

from hf_faceenh.learning.degradation.pixels import px, smooth_field

SCRATCHES, HAIRS, SPECKS, CRACKS = 5, 3, 40, 0.8  # how many there are on average, at worst
TORN = 0.3  # share of the pictures whose rim is torn, at worst
DEEPEST_TEAR = 0.16  # of the side
PAPER = np.array([0.93, 0.91, 0.86], np.float32)  # what shows where the picture is gone
SUBPIXEL = 4  # bits


def scratches(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Thin lines, hairs, specks of dust, cracks and a torn rim, light or dark: the more and the clearer, the higher
    the strength."""
    light, dark = (np.zeros(image.shape[:2], np.uint8) for _ in range(2))
    for draw, most in ((_scratch, SCRATCHES), (_hair, HAIRS), (_speck, SPECKS)):
        for _ in range(rng.poisson(most * strength)):
            opacity = round(255 * rng.uniform(0.3, 0.7 + 0.3 * strength))
            draw(light if rng.random() < 0.6 else dark, opacity, rng)
    for _ in range(rng.poisson(CRACKS * strength**2)):
        _crack(light, dark, rng)
    damaged = _covered(_covered(image, dark, rng.uniform(0, 0.25) * PAPER), light, PAPER)
    if rng.random() < TORN * strength:
        damaged = _covered(damaged, _tear(image, strength, rng), PAPER)
    return damaged


def _covered(image: np.ndarray, mask: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The picture with `value` where the mask (`[H, W]` uint8) is 255, in between where it is less."""
    covered, (y, x) = image.copy(), mask.nonzero()
    share = mask[y, x, None] * np.float32(1 / 255)
    covered[y, x] += share * (value.astype(np.float32) - covered[y, x])
    return covered


def _line(mask: np.ndarray, points: np.ndarray, opacity: int, width: float) -> None:
    """A polyline through points `[N, 2]` in px."""
    places = (points * 2**SUBPIXEL).round().astype(np.int32)
    # Nothing is thinner than 1 px; what should be is fainter.
    opacity, width = round(opacity * min(1, max(width, 0.4))), max(1, round(width))
    cv2.polylines(mask, [places], False, opacity, width, cv2.LINE_AA, SUBPIXEL)


def _scratch(mask: np.ndarray, opacity: int, rng: np.random.Generator) -> None:
    """Long, almost straight, upright (film that ran over something) or in any direction, here and there broken off."""
    side = max(mask.shape)
    upright = rng.random() < 0.5
    angle = rng.normal(math.pi / 2, 0.03) if upright else rng.uniform(0, math.pi)
    length = side * rng.uniform(0.15, 1.5 if upright else 0.6)
    middle, ahead = rng.uniform(0, 1, 2) * mask.shape[::-1], np.array([math.cos(angle), math.sin(angle)])
    along = np.linspace(-0.5, 0.5, 12)[:, None] * length
    bow = np.square(along / side) * side * rng.normal(0, 0.05)
    points = middle + along * ahead + bow * ahead[::-1] * (-1, 1)
    width = px(mask, rng.uniform(0.6, 2))
    for start in range(0, 11, 3) if rng.random() < 0.4 else ():
        points[start : start + 2] = points[start]  # a gap
    _line(mask, points, opacity, width)


def _hair(mask: np.ndarray, opacity: int, rng: np.random.Generator) -> None:
    """A curl."""
    count = int(rng.integers(10, 30))
    angles = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(rng.normal(0, 0.12), 0.15, count))
    steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * max(mask.shape) * rng.uniform(0.005, 0.015)
    _line(mask, rng.uniform(0, 1, 2) * mask.shape[::-1] + np.cumsum(steps, axis=0), opacity, px(mask, 1.2))


def _speck(mask: np.ndarray, opacity: int, rng: np.random.Generator) -> None:
    """Dust: mostly tiny, now and then a spot."""
    radius = px(mask, 0.5 + rng.exponential(0.9))
    axes = np.maximum(radius * np.array([1, rng.uniform(0.5, 1)]), 0.5) * 2**SUBPIXEL
    centre = (rng.uniform(0, 1, 2) * mask.shape[::-1] * 2**SUBPIXEL).astype(int).tolist()
    outline = axes.round().astype(int).tolist()
    cv2.ellipse(mask, centre, outline, rng.uniform(0, 180), 0, 360, opacity, cv2.FILLED, cv2.LINE_AA, SUBPIXEL)


def _crack(light: np.ndarray, dark: np.ndarray, rng: np.random.Generator) -> None:
    """A fold of the print from rim to rim, where the picture has broken off; its rim lies in shadow."""
    height, width = light.shape
    ends = rng.uniform(0, 1, 2)[:, None] * (width, 0) + [(0, 0), (0, height)]
    if rng.random() < 0.5:
        ends = rng.uniform(0, 1, 2)[:, None] * (0, height) + [(0, 0), (width, 0)]
    share = np.linspace(0, 1, 40)[:, None]
    jags = np.cumsum(rng.normal(0, px(light, 2.5), (40, 2)), axis=0)
    points = ends[0] * (1 - share) + ends[1] * share + jags - share * jags[-1]
    breadth, opacity = px(light, min(0.7 + rng.exponential(0.8), 3.5)), int(rng.uniform(130, 240))
    _line(dark, points + breadth / 2 + 0.5, opacity // 2, breadth)
    _line(light, points, opacity, breadth)
    for point in points[rng.random(40) < 0.2]:  # flakes
        spread = point + rng.normal(0, breadth * 1.5, (5, 2))
        cv2.fillPoly(light, [(spread * 2**SUBPIXEL).astype(np.int32)], opacity, cv2.LINE_AA, SUBPIXEL)


def _tear(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """The mask of a rim or a corner that is gone."""
    height, width = image.shape[:2]
    side, ragged = max(height, width), smooth_field(image, 16, rng) * px(image, 10)
    x, y = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
    x, y = (x if rng.random() < 0.5 else width - 1 - x), (y if rng.random() < 0.5 else height - 1 - y)
    depth = side * DEEPEST_TEAR * strength * rng.uniform(0.4, 1)
    distance = (x, y, (x + y) / 2)[rng.integers(3)]
    return ((depth + ragged - distance).clip(0, 1) * 255).astype(np.uint8)
