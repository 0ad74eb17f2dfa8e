"""The damage of digital pictures: a lens or camera that moved, too few pixels, a sensor's noise, colours.

The order blur → downscale → noise → JPEG is that of GFPGAN (Wang et al. 2021) and Real-ESRGAN (Wang et al. 2021), and
so is doing it twice.
"""

import math

import cv2
import numpy as np

from hf_faceenh.learning.degradation.codecs import jpeg
from hf_faceenh.learning.degradation.pixels import GREY, normal

WORST_BLUR = 1 / 64  # standard deviation, as a share of the picture's side
SMALLEST_SIDE = 32  # px that the worst downscaling leaves: a photograph's face has so many, whatever is trained on it
WORST_NOISE = 0.1  # standard deviation
KEPT_DEVIATION = 1.2  # px: wider Gaussians are computed on a smaller picture, in a fraction of the time
SAMPLERS, SAMPLER_SHARES = [cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC], [0.6, 0.2, 0.2]


def blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Isotropic, anisotropic or motion blur, of a standard deviation up to 1/64 of the side."""
    sigma = WORST_BLUR * max(image.shape[:2]) * strength
    if sigma < 0.2:
        return image.copy()
    kind = rng.choice(["isotropic", "anisotropic", "motion"], p=[0.6, 0.25, 0.15])
    across = {"isotropic": 1, "anisotropic": rng.uniform(0.2, 1), "motion": 0.05}[kind] * sigma
    # Half of the pixels do for a long motion, though they soften the other direction, by half a px.
    factor = max(int(across / KEPT_DEVIATION), 2 if sigma > 2 else 1)
    small = image
    if factor > 1:
        small = cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    mean = (factor**2 - 1) / 12  # variance of the mean over factor × factor px
    along, across = (math.sqrt(max(deviation**2 - mean, 0.09)) / factor for deviation in (sigma, across))
    if kind == "isotropic":
        small = cv2.GaussianBlur(small, (0, 0), along)
    else:
        kernel = _gaussian_kernel(along, across, rng.uniform(0, math.pi))
        small = cv2.filter2D(small, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    # Large kernels go through a Fourier transform, whose rounding passes below 0, and bicubic upscaling overshoots.
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)


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
    return _resampled(image, factor, rng)


def _resampled(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    height, width = (max(round(side / factor), 4) for side in image.shape[:2])
    # The two point samplers alias at large factors, as careless software does.
    method = rng.choice(SAMPLERS, p=SAMPLER_SHARES)
    return cv2.resize(image, (width, height), interpolation=int(method)).clip(0, 1)


def noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian or Poisson-like (variance ∝ brightness) noise, grey or coloured, of a deviation up to 0.1."""
    channels = 3 if rng.random() < 0.6 else 1
    grain = normal((*image.shape[:2], channels), rng)
    grain *= np.float32(WORST_NOISE * strength)
    if rng.random() < 0.4:
        grain *= np.sqrt(image.mean(axis=2, keepdims=True) * 2)  # as strong as Gaussian noise on middle grey
    return (image + grain).clip(0, 1)


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


def second(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Blur, fewer or more pixels (from a half of the side to a tenth more), noise and JPEG once more: a file that was
    copied, resized and saved again (the second order of Real-ESRGAN). Blur and noise up to half of their worst."""
    half = strength / 2
    image = blur(image, half * rng.random(), rng)
    factor = 2 ** (strength * rng.uniform(-0.14, 1))
    image = _resampled(image, min(factor, max(max(image.shape[:2]) / SMALLEST_SIDE, 1)), rng)
    return jpeg(noise(image, half * rng.random(), rng), half + half * rng.random(), rng)
