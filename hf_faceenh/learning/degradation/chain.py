"""All types of damage, one after the other."""

from collections.abc import Mapping

import numpy as np

from hf_faceenh.learning.degradation.classical import blur, colour, downsample, noise, second
from hf_faceenh.learning.degradation.codecs import jpeg, webp
from hf_faceenh.learning.degradation.film import fading, grain
from hf_faceenh.learning.degradation.optics import defocus, exposure
from hf_faceenh.learning.degradation.pixels import resize, to_bytes, to_floats
from hf_faceenh.learning.degradation.printing import halftone, scanner
from hf_faceenh.learning.degradation.wear import scratches

TYPES = {  # in order of use
    "exposure": exposure,
    "defocus": defocus,
    "colour": colour,
    "blur": blur,
    "grain": grain,
    "halftone": halftone,
    "fading": fading,
    "scratches": scratches,
    "scanner": scanner,
    "downsample": downsample,
    "noise": noise,
    "jpeg": jpeg,
    "webp": webp,
    "second": second,
}
# Those of digital pictures make most of the damage, for most pictures are digital; the others are now and then.
DEFAULT_PROBABILITIES = {
    **{"colour": 0.05, "blur": 0.7, "downsample": 0.9, "noise": 0.7, "jpeg": 0.8},
    **{"exposure": 0.08, "defocus": 0.08, "grain": 0.1, "halftone": 0.04, "fading": 0.08},
    **{"scratches": 0.08, "scanner": 0.06, "webp": 0.06, "second": 0.12},
}


class Degradation:
    """Degrades a picture by every type in turn, each with its probability and coefficient.

    A picture's damage has one difficulty d ~ U(0, 1) (a picture that was badly downscaled was usually badly
    compressed as well), and a type's strength is its coefficient × (d + N(0, 0.2), clipped to [0, 1]).

    Args:
        coefficients: type → coefficient in [0, 1]; 1 for those not named.
        probabilities: type → probability; `DEFAULT_PROBABILITIES` for those not named.

    Raises:
        ValueError: for an unknown type or a value outside [0, 1].
    """

    def __init__(
        self, coefficients: Mapping[str, float] | None = None, probabilities: Mapping[str, float] | None = None
    ):
        self.coefficients = dict.fromkeys(TYPES, 1.0) | checked("coefficients", coefficients)
        self.probabilities = DEFAULT_PROBABILITIES | checked("probabilities", probabilities)

    def __call__(
        self, image: np.ndarray, rng: np.random.Generator, coefficients: Mapping[str, float] | None = None
    ) -> np.ndarray:
        """The degraded picture alone; see `with_tags`."""
        return self.with_tags(image, rng, coefficients)[0]

    def with_tags(
        self, image: np.ndarray, rng: np.random.Generator, coefficients: Mapping[str, float] | None = None
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """
        Args:
            image: sharp picture, `[H, W, 3]` uint8 RGB.
            rng: decides everything random; the same state gives the same picture.
            coefficients: type → coefficient in place of the object's own.

        Returns:
            the degraded picture, upscaled (bicubic) to the same size, `[H, W, 3]` uint8; the tags: the strength in
            [0, 1] with which each of `TYPES` was applied, 0 where it was not, `[len(TYPES)]` float32; and the longer
            side, in px, that the picture had before it was upscaled.
        """
        coefficients = self.coefficients | dict(coefficients or {})
        lq = to_floats(image)
        difficulty = rng.random()
        tags = np.zeros(len(TYPES), np.float32)
        for index, (kind, degrade) in enumerate(TYPES.items()):
            # Drawn whether used or not, so that one type's setting does not change the others' draws.
            used, strength = rng.random(), np.clip(difficulty + 0.2 * rng.standard_normal(), 0, 1)
            (own_rng,) = rng.spawn(1)
            if used < self.probabilities[kind]:
                strength = coefficients[kind] * float(strength)
                lq, tags[index] = degrade(lq, strength, own_rng), strength
        return resize(to_bytes(lq), image.shape[1::-1]), tags, max(lq.shape[:2])


def checked(name: str, values: Mapping[str, float] | None) -> dict[str, float]:
    values = dict(values or {})
    for kind, value in values.items():
        if kind not in TYPES or not 0 <= value <= 1:
            raise ValueError(
                f"Degradation {name} map {', '.join(TYPES)} to numbers in [0, 1]; got {kind!r}: {value!r}."
            )
    return values
