"""What lossy files do: JPEG and WebP."""

import cv2
import numpy as np

from hf_faceenh.learning.degradation.pixels import to_bytes, to_floats

BEST_QUALITY, WORST_QUALITY = 95, 30  # of JPEG
BEST_WEBP, WORST_WEBP = 90, 10


def jpeg(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG at a quality from 95 down to 30; now and then twice, the second time on a shifted 8×8 grid."""
    quality = round(BEST_QUALITY + (WORST_QUALITY - BEST_QUALITY) * strength)
    pixels = through_jpeg(to_bytes(image), quality)
    if rng.random() < 0.2:
        pixels = through_shifted_jpeg(pixels, (quality, BEST_QUALITY + 1), rng)
    return to_floats(pixels)


def webp(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """WebP at a quality from 90 down to 10: softer and blotchier than JPEG, without its blocks."""
    quality = round(BEST_WEBP + (WORST_WEBP - BEST_WEBP) * strength)
    return to_floats(through_webp(to_bytes(image), quality))


def through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """`[H, W, 3]` uint8 RGB → what a JPEG file of that quality keeps of it."""
    return _round_trip(pixels, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)


def through_shifted_jpeg(pixels: np.ndarray, qualities: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The same on a shifted 8×8 grid, at a quality from the first up to below the second."""
    shift = tuple(int(s) for s in rng.integers(0, 8, 2))
    shifted = through_jpeg(np.roll(pixels, shift, (0, 1)), int(rng.integers(*qualities)))
    return np.roll(shifted, (-shift[0], -shift[1]), (0, 1))


def through_webp(pixels: np.ndarray, quality: int) -> np.ndarray:
    """As `through_jpeg`, of a WebP file."""
    return _round_trip(pixels, ".webp", cv2.IMWRITE_WEBP_QUALITY, quality)


def _round_trip(pixels: np.ndarray, suffix: str, setting: int, quality: int) -> np.ndarray:
    _, data = cv2.imencode(suffix, pixels[..., ::-1], [setting, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def noisy_and_compressed(pixels: np.ndarray, deviation: float, quality: int, rng: np.random.Generator) -> np.ndarray:
    """Damage that is always the same, for evaluations: Gaussian noise and JPEG.

    Args:
        pixels: `[H, W, 3]` uint8 RGB.
        deviation: standard deviation of the noise, of 255.
        quality: of the JPEG file.
        rng: decides the noise.
    """
    noisy = (pixels + rng.normal(0, deviation, pixels.shape)).round().clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(through_jpeg(noisy, quality))
