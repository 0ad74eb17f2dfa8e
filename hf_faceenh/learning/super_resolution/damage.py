"""Light to moderate damage, as pictures that people have show it: soft, grainy, compressed.

Pictures are `[H, W, 3]` float32 RGB in [0, 1]; lengths in px of the picture that is damaged.
"""

import cv2
import numpy as np

from hf_faceenh.learning.degradation import GREY
from hf_faceenh.learning.degradation.codecs import through_jpeg, through_shifted_jpeg, through_webp

BLUR = (0.15, 0.6)  # standard deviation in px of the small picture: grainy and compressed pictures are soft as well
ROUND = 0.7  # share of the blurs that are alike in all directions
NOISE = (1 / 255, 12 / 255)  # deviation of the noise, log-uniform
NOISELESS = 0.15  # share of the pictures
LUMA_ONLY, AS_LIGHT, COARSE = 0.3, 0.3, 0.3  # shares: noise without colour; with variance ∝ brightness; grain
GRAIN = (0.4, 0.9)  # px: how soft grain is, as the standard deviation of a Gaussian
COMPRESSED, WEBP, TWICE = 0.75, 0.15, 0.15  # shares: compressed at all; of these as WebP; of these twice
QUALITY = (60, 96)  # of JPEG and WebP, uniform


def soften(image: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur, by `BLUR` px of a picture smaller by `scale`."""
    across, down = rng.uniform(*BLUR, 2) * scale
    return cv2.GaussianBlur(image, (0, 0), across, sigmaY=across if rng.random() < ROUND else down)


def noise_for(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is added to the picture: sensor noise, or the softer grain of film."""
    if rng.random() < NOISELESS:
        return np.zeros_like(image)
    deviation = np.exp(rng.uniform(*np.log(NOISE)))
    field = rng.standard_normal(image.shape, dtype=np.float32)
    if rng.random() < LUMA_ONLY:
        field = np.repeat(field[..., :1], 3, axis=2)
    if rng.random() < COARSE:
        field = cv2.GaussianBlur(field, (0, 0), rng.uniform(*GRAIN))
        field /= field.std()
    if rng.random() < AS_LIGHT:
        field = field * np.sqrt(2 * (image @ GREY).clip(0, 1))[..., None]  # as strong as the others on middle grey
    return np.float32(deviation) * field


def compressed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 `[H, W, 3]` → the same after JPEG, mostly, or WebP; some twice, on a shifted grid, some not at all."""
    if rng.random() >= COMPRESSED:
        return pixels
    if rng.random() < WEBP:
        return through_webp(pixels, int(rng.integers(*QUALITY)))
    pixels = through_jpeg(pixels, int(rng.integers(*QUALITY)))
    return through_shifted_jpeg(pixels, QUALITY, rng) if rng.random() < TWICE else pixels
