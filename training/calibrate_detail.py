"""Measures `hf_faceenh.detail` on sharp faces that are damaged in known ways.

    python training/calibrate_detail.py --faces FACES

FACES is a folder of aligned faces, 512 px of real detail each. Prints a Markdown table: what was done to them, and the
detail in px that was measured afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from hf_faceenh.detail import measure
from hf_faceenh.learning.data import decode
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.tables import markdown_table
from hf_faceenh.pictures import SUFFIXES

SIDE = 512


@dataclass
class Options:
    """Settings of `training/calibrate_detail.py`.

    Args:
        faces: folder of sharp, aligned faces.
        count: how many of them, evenly over their names.
    """

    faces: Path
    count: int = 60


def resized(face: np.ndarray, side: int) -> np.ndarray:
    interpolation = cv2.INTER_AREA if side < len(face) else cv2.INTER_CUBIC
    return cv2.resize(face, (side, side), interpolation=interpolation)


def grainy(face: np.ndarray, strength: float, spread: float) -> np.ndarray:
    """With grain of that standard deviation in levels of 255, each grain a Gaussian of `spread` px."""
    noise = np.random.default_rng(0).standard_normal(face.shape[:2])
    noise = cv2.GaussianBlur(noise, (0, 0), spread) if spread else noise
    return np.clip(face + strength * (noise / noise.std())[..., None], 0, 255).astype(np.uint8)


def jpeg(face: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def defocused(face: np.ndarray, width: int) -> np.ndarray:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)).astype(np.float32)
    return cv2.filter2D(face, -1, disc / disc.sum())


def scan(face: np.ndarray, side: int, strength: float) -> np.ndarray:
    """A print that resolves `side` px, scanned at 1024 px with grain, as JPEG."""
    return jpeg(grainy(resized(resized(face, side), 2 * SIDE), strength, 1.2), 92)


DAMAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda face: face,
    **{f"downscaled to {side} px": lambda face, side=side: resized(face, side) for side in (256, 128, 64)},
    **{
        f"downscaled to {side} px, upscaled": lambda face, side=side: resized(resized(face, side), SIDE)
        for side in (341, 256, 128, 64)
    },
    **{f"Gaussian blur of {s} px": lambda face, s=s: cv2.GaussianBlur(face, (0, 0), s) for s in (1, 2, 4)},
    **{f"defocus {width} px wide": lambda face, width=width: defocused(face, width) for width in (5, 9, 15)},
    **{f"JPEG {quality}": lambda face, quality=quality: jpeg(face, quality) for quality in (75, 30)},
    **{f"white noise of {s} levels": lambda face, s=s: grainy(face, s, 0) for s in (3, 6, 12)},
    **{f"170 px scanned at 1024, grain of {s}": lambda face, s=s: scan(face, 170, s) for s in (3, 6, 12)},
    "a quarter as bright": lambda face: face // 4,
}


def read(path: Path) -> np.ndarray:
    """A face, BGR, `[H, W, 3]` uint8."""
    return np.ascontiguousarray(np.asarray(decode({"path": str(path)}))[:, :, ::-1])


def detail(face: np.ndarray) -> float:
    pixels = torch.from_numpy(np.ascontiguousarray(face[:, :, ::-1])).permute(2, 0, 1) / 255
    return measure(pixels, np.eye(2, 3), float(len(face)))


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments)
    paths = sorted(path for path in options.faces.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"There is no picture in {options.faces}; expected aligned faces of {SIDE} px.")
    places = np.linspace(0, len(paths) - 1, min(options.count, len(paths))).round().astype(int)
    faces = [resized(read(paths[place]), SIDE) for place in places]
    lines = []
    for name, damage in DAMAGES.items():
        shares = np.percentile([detail(damage(face)) for face in faces], [5, 50, 95])
        lines.append([name, *(f"{share:.0f}" for share in shares)])
    print(markdown_table([f"done to {len(faces)} faces of {SIDE} px", "5 %", "median", "95 %"], lines))


if __name__ == "__main__":
    run_script(main)
