"""What lossy files do: JPEG and WebP."""

import cv2
import numpy as np

from hf_faceenh.learning.degradation.pixels import to_bytes, to_floats

BEST_QUALITY, WORST_QUALITY = 95, 30  # of JPEG
BEST_WEBP, WORST_WEBP = 90, 10


def jpeg(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """JPEG at a quality from 95 down to 30; now and then twice, the second time on a shifted 8×8 grid."""
    quality = round(BEST_QUALITY + (WORST_QUALITY - BEST_QUALITY) * strength)
    pixels = _jpeg_round_trip(to_bytes(image), quality)
    if rng.random() < 0.2:
        shift = tuple(int(s) for s in rng.integers(0, 8, 2))
        shifted = _jpeg_round_trip(np.roll(pixels, shift, (0, 1)), int(rng.integers(quality, BEST_QUALITY + 1)))
        pixels = np.roll(shifted, (-shift[0], -shift[1]), (0, 1))
    return to_floats(pixels)


def webp(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """WebP at a quality from 90 down to 10: softer and blotchier than JPEG, without its blocks."""
    quality = round(BEST_WEBP + (WORST_WEBP - BEST_WEBP) * strength)
    return to_floats(_round_trip(to_bytes(image), ".webp", cv2.IMWRITE_WEBP_QUALITY, quality))


def _jpeg_round_trip(pixels: np.ndarray, quality: int) -> np.ndarray:
    return _round_trip(pixels, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)


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
    return np.ascontiguousarray(_jpeg_round_trip(noisy, quality))
