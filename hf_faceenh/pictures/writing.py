"""A picture into a file: which format, what that format can hold, and how it is encoded."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_faceenh.errors import one_line
from hf_faceenh.files import written_whole
from hf_faceenh.pictures.formats import DAMAGE
from hf_faceenh.pictures.metadata import ImageInfo

ALPHA_FORMATS = {"PNG", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000"}
DEEP_FORMATS = {"PNG", "TIFF"}
LOSSY_FORMATS = {"JPEG", "WEBP", "AVIF"}


def save(image: Image.Image, path: Path, info: ImageInfo, format: str | None) -> None:
    """See `FaceImageProcessor.save`."""
    format = _output_format(path, info, format)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write {path.name} to. Create it first.")
    try:
        image, file = _fit_format(image, format), BytesIO()
        image.save(file, format=format, **_save_options(image, info, format))
        with written_whole(path) as partial:
            partial.write_bytes(file.getbuffer())  # Pillow does not notice a write that a full disk cuts short
    except DAMAGE as error:
        raise OSError(f"Could not write {path} as {format}: {one_line(error)}. Check the disk, or try PNG.") from error


def _output_format(path: Path, info: ImageInfo, format: str | None) -> str:
    suffixes = Image.registered_extensions()
    asked = format or path.suffix.lstrip(".") or info.format or "PNG"
    name = suffixes.get(f".{asked.lower()}", asked.upper())
    if name not in Image.SAVE:
        raise ValueError(f"{path}: Pillow cannot write the format {asked!r}. Choose .jpg, .png, .webp or .tif.")
    return name


def _fit_format(image: Image.Image, format: str) -> Image.Image:
    """`image` with 8 bits where the format holds no 16, and laid onto white where it holds no alpha."""
    if image.mode == "I;16" and format not in DEEP_FORMATS:
        return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("LA", "RGBA") and format not in ALPHA_FORMATS:
        canvas = Image.new(image.mode.removesuffix("A"), image.size, "white")
        canvas.paste(image.convert(canvas.mode), mask=image.getchannel("A"))
        return canvas
    return image


def _save_options(image: Image.Image, info: ImageInfo, format: str) -> dict[str, Any]:
    profile = info.icc_profile if image.mode in ("RGB", "RGBA") else None
    options = {"exif": info.exif, "icc_profile": profile}
    if format in LOSSY_FORMATS:
        options |= info.jpeg if format == "JPEG" and info.jpeg else {"quality": 95}
    return {name: value for name, value in options.items() if value is not None}
