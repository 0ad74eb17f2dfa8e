"""What several types of damage are made of: number types, sizes, curves, and fields of random numbers."""

import cv2
import numpy as np

from hf_faceenh.pictures.luminance import LUMA

GREY = np.float32(LUMA)
SIDE = 512  # px for which lengths are given


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] → uint8."""
    return cv2.convertScaleAbs(image, alpha=255)


def to_floats(pixels: np.ndarray) -> np.ndarray:
    """uint8 → float32 in [0, 1]."""
    return np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)


def resize(pixels: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    """To `target` (width, height): by area where it shrinks, bicubic where it grows."""
    shrinks = target[0] < pixels.shape[1]
    return cv2.resize(pixels, target, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def px(image: np.ndarray, length: float) -> float:
    """A length that is given for a side of `SIDE`, in this picture."""
    return length * max(image.shape[:2]) / SIDE


def positions(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x `[1, W]` and y `[H, 1]` of the pixels' centres, from -1 to 1 over the longer side."""
    height, width = image.shape[:2]
    x, y = ((np.arange(side, dtype=np.float32) * 2 + 1 - side) / max(height, width) for side in (width, height))
    return x[None], y[:, None]


def with_curves(image: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Every channel through its curve, `[256, 3]` over the inputs from 0 to 1; the input is rounded to 8 bits."""
    return cv2.LUT(to_bytes(image), curves.astype(np.float32).clip(0, 1)[None])


def normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Normally distributed numbers, float32; OpenCV draws them three times as fast as NumPy."""
    cv2.setRNGSeed(int(rng.integers(1 << 31)))
    return cv2.randn(np.empty(shape, np.float32), 0, 1).reshape(shape)


def smooth_field(image: np.ndarray, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform numbers from -1 to 1 at the corners of `cells` × `cells` cells, smooth in between: `[H, W]` float32."""
    corners = rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32)
    return cv2.resize(corners, image.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(-1, 1)
