"""A picture into a file: which format, what that format can hold, and how it is encoded."""

import contextlib
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from hf_faceenh.errors import one_line
from hf_faceenh.files import written_whole
from hf_faceenh.pictures import heic
from hf_faceenh.pictures.carrying import carried, completed, encoder_options
from hf_faceenh.pictures.metadata import ImageInfo
from hf_faceenh.pictures.output import to_8_bits

ALPHA_FORMATS = {"PNG", "WEBP", "TIFF", "GIF", "AVIF", "HEIF", "JPEG2000"}
DEEP_FORMATS = {"PNG", "TIFF"}
QUALITY = 95  # of lossy formats, unless the user asks for another
SHORT = {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}  # endings that are not the format's name
LARGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535, "AVIF": 65536}  # px


def save(
    image: Image.Image | np.ndarray,
    path: Path,
    info: ImageInfo,
    format: str | None,
    quality: int | None,
    provenance: str | None,
) -> None:
    """See `FaceImageProcessor.save`."""
    format = output_format(path, info, format)
    check_folder(path)
    with problems(path, format):
        data = encoded(fit_format(image, format), info, format, quality, provenance)
        with written_whole(path) as partial:
            partial.write_bytes(data)  # Pillow does not notice a write that a full disk cuts short


def check_folder(path: Path) -> None:
    """
    Raises:
        FileNotFoundError: where there is no folder for `path`.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write {path.name} to. Create it first.")


@contextlib.contextmanager
def problems(path: Path, format: str) -> Iterator[None]:
    """Makes one line of what an encoder or the disk raises."""
    try:
        yield
    except Exception as error:
        raise OSError(f"Could not write {path} as {format}: {one_line(error)}. Check the disk, or try PNG.") from error


def output_format(path: Path, info: ImageInfo, format: str | None) -> str:
    """Pillow's name of the format to write."""
    heic.register()
    suffixes = Image.registered_extensions()
    asked = format or path.suffix.lstrip(".") or info.format or "PNG"
    name = suffixes.get(f".{asked.lower()}", asked.upper())
    if name not in Image.SAVE:
        raise ValueError(f"{path}: Pillow cannot write the format {asked!r}. Choose .jpg, .png, .webp or .tif.")
    return name


def kept_format(info: ImageInfo) -> str:
    """The format of a result that keeps that of its picture, if Pillow can write it; else PNG."""
    heic.register()
    return info.format if info.format in Image.SAVE else "PNG"


def suffix_of(format: str) -> str:
    """The ending of a format's files."""
    return SHORT.get(format, f".{format.lower()}")


def check_size(path: Path, format: str, width: int, height: int) -> None:
    """See `FaceImageProcessor.check`."""
    largest = LARGEST_SIDE.get(format)
    if largest and max(width, height) > largest:
        raise ValueError(
            f"{path} would have {width}×{height} px, and {format} files hold at most {largest} px a side. "
            "Choose PNG or TIFF, or a smaller upscale."
        )


def fit_format(image: Image.Image | np.ndarray, format: str) -> Image.Image | np.ndarray:
    """`image` with 8 bits where the format holds no 16, and laid onto white where it holds no alpha."""
    if format not in DEEP_FORMATS:
        if isinstance(image, np.ndarray):
            image = to_8_bits(image)
        elif image.mode == "I;16":
            return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if format not in ALPHA_FORMATS and image.mode in ("LA", "RGBA"):
        canvas = Image.new(image.mode.removesuffix("A"), image.size, "white")
        canvas.paste(image.convert(canvas.mode), mask=image.getchannel("A"))
        return canvas
    return image


def encoded(
    image: Image.Image | np.ndarray,
    info: ImageInfo,
    format: str,
    quality: int | None,
    provenance: str | None,
    **options: Any,
) -> bytes:
    """A file's content; `options` are more of the encoder's."""
    is_array = isinstance(image, np.ndarray)
    size = image.shape[1::-1] if is_array else image.size
    grey = not is_array and image.mode in ("L", "LA", "I;16")
    tags = carried(info, format, size, _profile(info, grey, format), provenance)
    if is_array:
        order = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        data = cv2.imencode(f".{format.lower()}", cv2.cvtColor(image, order))[1].tobytes()
    else:
        file = BytesIO()
        options |= _encoder_settings(info, format, quality) | encoder_options(tags, format)
        image.save(file, format=format, **options)
        data = file.getvalue()
    return completed(data, tags, format, alpha=is_array and image.shape[2] == 4)


def _profile(info: ImageInfo, grey: bool, format: str) -> bytes | None:
    """The profile, if it is one for pixels like these."""
    profile = info.icc_profile
    if profile is None or (profile[16:20] == b"GRAY") != grey or (grey and format in ("WEBP", "AVIF")):
        return None
    return profile


def _encoder_settings(info: ImageInfo, format: str, quality: int | None) -> dict[str, Any]:
    if format == "JPEG":
        return {"qtables": _quantisation(info, quality), "subsampling": "4:4:4"}  # faces live by their colours too
    if format == "WEBP":
        return {"quality": quality or QUALITY, "exact": True}  # keeps colours under transparent pixels
    if format == "AVIF":
        return {"quality": quality or QUALITY, "subsampling": "4:4:4"}
    if format == "HEIF":  # in half the colour resolution, which is all that telephones show
        return {"quality": quality or QUALITY}
    return {}


def _quantisation(info: ImageInfo, quality: int | None) -> list[list[int]]:
    """The tables of `quality`; if none is asked for, nowhere coarser than quality 95, nor than the input was."""
    tables = _tables(quality or QUALITY)
    if quality is not None or not info.jpeg:
        return tables
    return [
        [min(levels) for levels in zip(*pair, strict=True)] for pair in zip(tables, info.jpeg["qtables"], strict=True)
    ]


@cache
def _tables(quality: int) -> list[list[int]]:
    """libjpeg's, for luminance and chrominance."""
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return [list(image.quantization[number]) for number in (0, 1)]
