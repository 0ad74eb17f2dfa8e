"""A result in the form that its picture came in: mode, depth and alpha of a PIL picture, an array or a tensor."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from hf_faceenh.pictures.luminance import luminance
from hf_faceenh.pictures.metadata import ImageInfo

OUTPUT_TYPES = ("pil", "deep", "np", "pt")
STRIP = 2**18  # px that are converted at once


def to_output(
    pixels: torch.Tensor, alpha: torch.Tensor | None, info: ImageInfo, output_type: Literal["pil", "deep", "np", "pt"]
) -> Image.Image | np.ndarray | torch.Tensor:
    """See `FaceImageProcessor.to_output`; `alpha` `[1, H, W]` may have another size than `pixels`."""
    check_output_type(output_type)
    alpha = _scaled(alpha, pixels)
    if output_type == "deep" and info.depth == 16 and not info.grey:
        return _to_16_bits(pixels, alpha)
    if output_type in ("pil", "deep"):
        return _to_pil(pixels, alpha, info)
    height, width = pixels.shape[1:]
    channels = 3 if alpha is None else 4
    if output_type == "pt":
        return _fill(pixels.new_empty(channels, height, width, dtype=torch.float32), pixels, alpha)
    array = np.empty((height, width, channels), np.float32)
    _fill(torch.from_numpy(array).permute(2, 0, 1), pixels, alpha)
    return array


def check_output_type(output_type: str) -> None:
    """Raises a `ValueError` for an unknown kind of output."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}; got {output_type!r}.")


def _scaled(alpha: torch.Tensor | None, pixels: torch.Tensor) -> torch.Tensor | None:
    """`alpha` at the size and on the device of `pixels`, bicubic."""
    if alpha is None:
        return None
    alpha = alpha.to(pixels.device)
    if alpha.shape[1:] == pixels.shape[1:]:
        return alpha
    return F.interpolate(alpha[None], size=pixels.shape[1:], mode="bicubic", align_corners=False)[0].clamp_(0, 1)


def _fill(planes: torch.Tensor, pixels: torch.Tensor, alpha: torch.Tensor | None) -> torch.Tensor:
    planes[:3] = pixels
    if alpha is not None:
        planes[3:] = alpha
    return planes.clamp_(0, 1)


def _to_pil(pixels: torch.Tensor, alpha: torch.Tensor | None, info: ImageInfo) -> Image.Image:
    """Strip by strip: beside `pixels` and the picture, memory for one strip only."""
    height, width = pixels.shape[1:]
    deep = info.grey and info.depth == 16 and alpha is None
    mode = "I;16" if deep else ("L" if info.grey else "RGB") + ("" if alpha is None else "A")
    image = Image.new(mode, (width, height))
    for rows, strip in _strips(pixels, alpha, info.grey):
        levels = _levels(strip, deep)
        image.paste(Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels), (0, rows.start))
    return image


def _to_16_bits(pixels: torch.Tensor, alpha: torch.Tensor | None) -> np.ndarray:
    """uint16 `HxWx3` or `HxWx4`, likewise."""
    array = np.empty((*pixels.shape[1:], 3 if alpha is None else 4), np.uint16)
    for rows, strip in _strips(pixels, alpha, grey=False):
        array[rows] = _levels(strip, deep=True)
    return array


def to_8_bits(array: np.ndarray) -> Image.Image:
    """uint16 `HxWx3` or `HxWx4` as a picture of Pillow's."""
    levels = np.empty(array.shape, np.uint8)
    for top in range(0, len(array), rows := max(1, STRIP // array.shape[1])):
        levels[top : top + rows] = np.round(array[top : top + rows] / 257)
    return Image.fromarray(levels)


def _strips(pixels: torch.Tensor, alpha: torch.Tensor | None, grey: bool) -> Iterator[tuple[slice, torch.Tensor]]:
    """The rows of each strip, and its planes of luma or RGB, and alpha."""
    height, width = pixels.shape[1:]
    count = max(1, STRIP // width)
    for top in range(0, height, count):
        rows = slice(top, top + count)
        strip = pixels[:, rows].float()
        if grey:
            strip = luminance(strip)
        if alpha is not None:
            strip = torch.cat([strip, alpha[:, rows]])
        yield rows, strip


def _levels(strip: torch.Tensor, deep: bool) -> np.ndarray:
    """`[C, h, w]` in [0, 1] → uint8 or uint16 `hxwxC`."""
    levels = strip.clamp(0, 1).mul_(65535 if deep else 255).round_().to(torch.uint16 if deep else torch.uint8)
    return np.stack(levels.cpu().numpy(), axis=2)  # contiguous, else Pillow copies it once more
