"""Degraded faces from sharp ones: types of damage, each scaled by a coefficient.

The order blur → downscale → noise → JPEG is that of GFPGAN (Wang et al. 2021) and Real-ESRGAN (Wang et al. 2021).
Every type of damage is a function that takes an `[H, W, 3]` float32 RGB array in [0, 1], a strength in [0, 1] (0:
harmless, 1: the worst named in its docstring) and a `numpy.random.Generator`, and returns a new array in [0, 1].
"""

import math
from collections.abc import Mapping

import cv2
import numpy as np

WORST_BLUR = 1 / 64  # standard deviation, as a share of the picture's side
SMALLEST_SIDE = 32  # px that the worst downscaling leaves: a photograph's face has so many, whatever is trained on it
WORST_NOISE = 0.1  # standard deviation
BEST_QUALITY, WORST_QUALITY = 95, 30  # of JPEG
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # shares of red, green and blue


def blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Isotropic, anisotropic or motion blur, of a standard deviation up to 1/64 of the side."""
    sigma = WORST_BLUR * max(image.shape[:2]) * strength
    if sigma < 0.2:
        return image.copy()
    kind = rng.choice(["isotropic", "anisotropic", "motion"], p=[0.6, 0.25, 0.15])
    if kind == "isotropic":
        return cv2.GaussianBlur(image, (0, 0), sigma).clip(0, 1)
    across = 0.05 * sigma if kind == "motion" else sigma * rng.uniform(0.2, 1)
    kernel = _gaussian_kernel(sigma, max(across, 0.3), rng.uniform(0, math.pi))
    blurred = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return blurred.clip(0, 1)  # large kernels go through a Fourier transform, whose rounding passes below 0


def _gaussian_kernel(along: float, across: float, angle: float) -> np.ndarray:
    """A rotated Gaussian's kernel (sum 1); its standard deviations in px."""
    radius = math.ceil(2.5 * along)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    u = x * math.cos(angle) + y * math.sin(angle)
    v = y * math.cos(angle) - x * math.sin(angle)
    kernel = np.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    return (kernel / kernel.sum()).astype(np.float32)


def downsample(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Fewer pixels: down to a side of 32, with area, bilinear or bicubic interpolation."""
    factor = max(max(image.shape[:2]) / SMALLEST_SIDE, 1) ** strength
    height, width = (max(round(side / factor), 4) for side in image.shape[:2])
    # The two point samplers alias at large factors, as careless software does.
    method = rng.choice([cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC], p=[0.6, 0.2, 0.2])
    return cv2.resize(image, (width, height), interpolation=int(method)).clip(0, 1)


def noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian or Poisson-like (variance ∝ brightness) noise, grey or coloured, of a deviation up to 0.1."""
    sigma = WORST_NOISE * strength
    channels = 3 if rng.random() < 0.6 else 1
    grain = rng.standard_normal((*image.shape[:2], channels), dtype=np.float32) * sigma
    if rng.random() < 0.4:
        grain = grain * np.sqrt(image.mean(axis=2, keepdims=True) * 2)  # as strong as Gaussian noise on middle grey
    return (image + grain).clip(0, 1)


def jpeg(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG at a quality from 95 down to 30; now and then twice, the second time on a shifted 8×8 grid."""
    quality = round(BEST_QUALITY + (WORST_QUALITY - BEST_QUALITY) * strength)
    pixels = _jpeg_round_trip((image * 255).round().astype(np.uint8), quality)
    if rng.random() < 0.2:
        shift = tuple(int(s) for s in rng.integers(0, 8, 2))
        shifted = _jpeg_round_trip(np.roll(pixels, shift, (0, 1)), int(rng.integers(quality, BEST_QUALITY + 1)))
        pixels = np.roll(shifted, (-shift[0], -shift[1]), (0, 1))
    return pixels.astype(np.float32) / 255


def _jpeg_round_trip(pixels: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def colour(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A cast (up to ±20 % a channel), fading (contrast down to 60 %), or loss of colour (down to grey)."""
    kind = rng.choice(["cast", "fading", "grey"])
    if kind == "cast":
        return (image * (1 + 0.2 * strength * rng.uniform(-1, 1, 3).astype(np.float32))).clip(0, 1)
    if kind == "fading":
        contrast = 1 - 0.4 * strength
        return image * contrast + (1 - contrast) * np.float32(rng.uniform(0.3, 0.7))
    grey = image @ GREY
    return image + strength * (grey[..., None] - image)


TYPES = {"colour": colour, "blur": blur, "downsample": downsample, "noise": noise, "jpeg": jpeg}  # in order of use
DEFAULT_PROBABILITIES = {"colour": 0.05, "blur": 0.7, "downsample": 0.9, "noise": 0.7, "jpeg": 0.8}


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
        lq = image.astype(np.float32) / 255
        difficulty = rng.random()
        tags = np.zeros(len(TYPES), np.float32)
        for index, (kind, degrade) in enumerate(TYPES.items()):
            # Drawn whether used or not, so that one type's setting does not change the others' draws.
            used, strength = rng.random(), np.clip(difficulty + 0.2 * rng.standard_normal(), 0, 1)
            (own_rng,) = rng.spawn(1)
            if used < self.probabilities[kind]:
                strength = coefficients[kind] * float(strength)
                lq, tags[index] = degrade(lq, strength, own_rng), strength
        return resize((lq * 255).round().astype(np.uint8), image.shape[1::-1]), tags, max(lq.shape[:2])


def checked(name: str, values: Mapping[str, float] | None) -> dict[str, float]:
    values = dict(values or {})
    for kind, value in values.items():
        if kind not in TYPES or not 0 <= value <= 1:
            raise ValueError(
                f"Degradation {name} map {', '.join(TYPES)} to numbers in [0, 1]; got {kind!r}: {value!r}."
            )
    return values


def noisy_and_compressed(pixels: np.ndarray, deviation: float, quality: int, rng: np.random.Generator) -> np.ndarray:
    """Damage that is always the same, for evaluations: Gaussian noise and JPEG.

    Args:
        pixels: `[H, W, 3]` uint8 RGB.
        deviation: standard deviation of the noise, of 255.
        quality: of the JPEG file.
        rng: decides the noise.
    """
    noisy = (pixels + rng.normal(0, deviation, pixels.shape)).round().clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(_jpeg_round_trip(noisy, quality))


def resize(pixels: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    """To `target` (width, height): by area where it shrinks, bicubic where it grows."""
    shrinks = target[0] < pixels.shape[1]
    return cv2.resize(pixels, target, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
