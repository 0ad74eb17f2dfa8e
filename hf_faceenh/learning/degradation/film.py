"""The damage of film: its grain, and its fading dyes."""

import cv2
import numpy as np

from hf_faceenh.learning.degradation.pixels import normal, px, smooth_field, with_curves

WORST_GRAIN = 0.12  # standard deviation, of middle grey
LEAST_GRAIN, GREATEST_GRAIN = 0.5, 1.6  # px: standard deviation of a grain's extent
INPUTS = np.linspace(0, 1, 256, dtype=np.float32)[:, None]  # of a curve


def grain(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Grain of a deviation up to 0.12 and 0.5 to 1.6 px wide, strongest in middle tones, as silver has it; now and
    then a little coloured."""
    grains = normal((*image.shape[:2], 1), rng)
    if rng.random() < 0.3:
        grains = grains + normal(image.shape, rng) / 2
    extent = px(image, rng.uniform(LEAST_GRAIN, GREATEST_GRAIN))
    grains = cv2.GaussianBlur(grains, (0, 0), max(extent, 0.3)).reshape(grains.shape)
    grains *= np.float32(WORST_GRAIN * strength) / max(float(grains.std()), 1e-6)
    brightness = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return (image + grains * (0.3 + 2.8 * brightness * (1 - brightness))).clip(0, 1)


def fading(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A print after decades: blacks lifted (up to 0.35), whites dull and yellow, dyes that faded one more than the
    other; in some places more than in others."""
    kind = rng.choice(["yellowed", "washed", "dyes"], p=[0.4, 0.25, 0.35])
    blacks, whites, gammas = rng.uniform(0.1, 0.3) * np.ones(3), np.ones(3), rng.uniform(0.8, 1.1) * np.ones(3)
    if kind == "yellowed":
        whites = 1 - rng.uniform(0.5, 1) * np.array([0.06, 0.14, 0.36])
        blacks = blacks * np.array([1.1, 0.85, 0.6])
    elif kind == "washed":
        blacks, whites = blacks + 0.05, whites - rng.uniform(0.05, 0.2)
    else:  # cyan, magenta and yellow dye leave red, green and blue dark; what fades lifts their blacks
        blacks = rng.uniform(0, 0.35, 3)
        whites, gammas = 1 - rng.uniform(0, 0.15, 3), rng.uniform(0.7, 1.15, 3)
    curves = strength * blacks + (1 - strength * (blacks + 1 - whites)) * INPUTS ** (gammas**strength)
    faded = with_curves(image, curves)
    if rng.random() < 0.3:
        where = 0.7 + 0.3 * smooth_field(image, int(rng.integers(2, 6)), rng)[..., None]
        faded = image + (faded - image) * where
    return faded
