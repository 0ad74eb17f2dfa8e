"""How well a super-resolver upscales, beside bicubic upscaling."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from PIL import Image

from hf_faceenh.learning.degradation import noisy_and_compressed
from hf_faceenh.learning.metrics import flat_noise, psnr
from hf_faceenh.learning.super_resolution.samples import Photographs, from_float, resample, to_tensor
from hf_faceenh.learning.tables import markdown_table
from hf_faceenh.models.super_resolver import SuperResolver


def downscaled(sharp: np.ndarray, scale: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """The clean input; `rng` has nothing to decide here."""
    return resample(sharp, (sharp.shape[1] // scale, sharp.shape[0] // scale), Image.Resampling.BICUBIC)


def slightly_degraded(sharp: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """The fixed degraded input: blur of 0.8 px, downscaled, noise of 4/255, JPEG quality 80."""
    return noisy_and_compressed(downscaled(cv2.GaussianBlur(sharp, (0, 0), 0.8), scale), 4, 80, rng)


INPUTS = {"clean": downscaled, "poor": slightly_degraded}  # name in the table → how it is made


@torch.no_grad()
def evaluate(
    model: SuperResolver, pictures: Sequence[np.ndarray] | Photographs, seed: int = 0
) -> dict[str, dict[str, float]]:
    """For each of `INPUTS` at each of the model's scales: PSNR in dB and noise in flat places, of 255, of `model` and
    of bicubic upscaling; of a model with `config.denoising` also the noise that it keeps where none is to go."""
    figures = {}
    for scale in model.scales:
        for name, make in INPUTS.items():
            rows = [_measured(model, scale, pictures[i], make, (seed, i)) for i in range(len(pictures))]
            key = name if scale == model.config.scale else f"{name}, ×{scale}"
            figures[key] = {figure: float(np.mean([row[figure] for row in rows])) for figure in rows[0]}
    return figures


def _measured(
    model: SuperResolver,
    scale: int,
    sharp: np.ndarray,
    make: Callable[[np.ndarray, int, np.random.Generator], np.ndarray],
    seed: tuple[int, int],
) -> dict[str, float]:
    sharp = sharp[: sharp.shape[0] // scale * scale, : sharp.shape[1] // scale * scale]
    small = make(sharp, scale, np.random.default_rng(seed))
    results = {"bicubic": resample(small, sharp.shape[1::-1], Image.Resampling.BICUBIC)}
    results["ours"] = upscaled(model, small, scale)
    row = {f"psnr_{kind}": psnr(result, sharp) for kind, result in results.items()}
    if model.config.denoising:
        results["kept"] = upscaled(model, small, scale, denoise=0.0)
    return row | {f"flat_noise_{kind}": flat_noise(result, sharp) for kind, result in results.items()}


def upscaled(model: SuperResolver, picture: np.ndarray, scale: int, denoise: float | None = None) -> np.ndarray:
    """uint8 `[H, W, 3]` → uint8 `[sH, sW, 3]`."""
    result = model(to_tensor(picture)[None].to(model.device), scale=scale, denoise=denoise).sample[0]
    return from_float(result.permute(1, 2, 0).float().cpu().numpy())


def table(figures: dict[str, dict[str, float]]) -> str:
    """`evaluate`'s figures as a Markdown table."""
    names = list(next(iter(figures.values())))
    return markdown_table(
        ["input", *names], [[kind, *(f"{row[name]:.2f}" for name in names)] for kind, row in figures.items()]
    )
