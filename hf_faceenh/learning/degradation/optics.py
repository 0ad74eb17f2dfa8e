"""The damage of light and lens: uneven exposure, and a picture out of focus."""

import math

import cv2
import numpy as np

from hf_faceenh.learning.degradation.pixels import positions, px, smooth_field

WORST_STOPS = 1.6  # by which the light differs within a picture
WORST_EXPOSURE = 0.5  # stops by which all of it is too much or too little
WORST_RADIUS = 13.0  # px of a disc of confusion
KEPT_RADIUS = 2.0  # px: larger discs are laid on a smaller picture, where they have about this radius
GAMMA = 2.2  # of the light in a picture: bright spots grow when it is out of focus


def exposure(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Light that is uneven (by up to 1.6 stops: patches, dark corners, light from a side), and too much or too little
    of it (up to 0.5). What is too bright is lost."""
    x, y = positions(image)
    kind = rng.choice(["patches", "corners", "side"])
    if kind == "patches":
        field = smooth_field(image, int(rng.integers(2, 5)), rng) / 2
    elif kind == "corners":
        field = 0.25 - (x - rng.uniform(-0.3, 0.3)) ** 2 / 2 - (y - rng.uniform(-0.3, 0.3)) ** 2 / 2
    else:
        angle, edge, softness = rng.uniform(0, 2 * math.pi), rng.uniform(-0.2, 0.2), rng.uniform(0.15, 0.8)
        field = np.tanh((x * math.cos(angle) + y * math.sin(angle) - edge) / softness) / 2
    stops = strength * (WORST_STOPS * field + WORST_EXPOSURE * rng.uniform(-1, 1))
    # A picture's numbers follow the light's GAMMA-th root.
    return np.multiply(image, np.exp2(stops / GAMMA, dtype=np.float32)[..., None]).clip(0, 1)


def defocus(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Every point becomes a disc or, as in a lens that is stopped down, a polygon, of a radius up to 13 px."""
    radius = px(image, WORST_RADIUS) * strength
    if radius < 0.5:
        return image.copy()
    factor = max(1, int(radius / KEPT_RADIUS))
    light = cv2.pow(image, GAMMA)
    if factor > 1:
        light = cv2.resize(light, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    light = cv2.filter2D(light, -1, _aperture(radius / factor, rng), borderType=cv2.BORDER_REFLECT_101)
    spread = cv2.pow(light.clip(0, 1), 1 / GAMMA)
    return cv2.resize(spread, image.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)


def _aperture(radius: float, rng: np.random.Generator) -> np.ndarray:
    """The kernel (sum 1) of a disc, or of a polygon of five to eight corners in any position; its radius in px."""
    corners = int(rng.choice([5, 6, 7, 8, 64], p=[0.1, 0.1, 0.1, 0.1, 0.6]))
    angles = rng.uniform(0, 2 * math.pi) + np.arange(corners) * 2 * math.pi / corners
    finer, reach = 8, math.ceil(radius)
    centre = ((2 * reach + 1) * finer - 1) / 2
    outline = centre + radius * finer * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    kernel = np.zeros(((2 * reach + 1) * finer,) * 2, np.float32)
    cv2.fillPoly(kernel, [outline.round().astype(np.int32)], 1)
    kernel = cv2.resize(kernel, (2 * reach + 1,) * 2, interpolation=cv2.INTER_AREA)
    return kernel / kernel.sum()
