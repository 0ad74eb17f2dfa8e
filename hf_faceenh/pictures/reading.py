"""Any kind of source → a decoded picture: files, bytes, URLs, PIL pictures, arrays and tensors."""

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
import requests
import torch
from diffusers.utils import logging
from diffusers.utils.constants import DIFFUSERS_REQUEST_TIMEOUT
from PIL import Image, UnidentifiedImageError

from hf_faceenh.errors import one_line
from hf_faceenh.faults import Fault, blamed, fault_of, optional
from hf_faceenh.files import LARGEST_FILE
from hf_faceenh.pictures import heic
from hf_faceenh.pictures.colour import rgb_planes, to_float
from hf_faceenh.pictures.formats import FORMATS, MAX_PIXELS, check_exists
from hf_faceenh.pictures.metadata import (
    ImageInfo,
    format_of,
    jpeg_settings,
    orientation_of,
    read_dpi,
    read_exif,
    read_texts,
    upright,
)
from hf_faceenh.pictures.unfinished import read_unfinished

logger = logging.get_logger(__name__)

Picture = Image.Image | np.ndarray | torch.Tensor | str | os.PathLike | bytes


class Limits(NamedTuple):
    """What is read: at most so many pixels, and Pillow's names of the formats."""

    max_pixels: int = MAX_PIXELS
    formats: tuple[str, ...] = FORMATS


@dataclass(frozen=True, slots=True, eq=False)
class LoadedImage:
    """A decoded picture.

    Args:
        pixels: `[3, H, W]` float32 in [0, 1], in the picture's own RGB, upright.
        alpha: `[1, H, W]` float32 in [0, 1], not premultiplied; `None` for an opaque picture.
        info: what is needed to give the picture back in the form it came in.
        remark: what is wrong with the file, though the picture could be read; `None` if nothing is.
    """

    pixels: torch.Tensor
    alpha: torch.Tensor | None
    info: ImageInfo
    remark: str | None = None


def load(picture: Picture | LoadedImage, limits: Limits) -> LoadedImage:
    """See `FaceImageProcessor.load`."""
    if isinstance(picture, LoadedImage):
        return picture
    if isinstance(picture, (np.ndarray, torch.Tensor)):
        return _from_planes(_planes(picture))
    if isinstance(picture, Image.Image):
        return decode(picture, "The picture", limits)
    source = opened(picture)
    if source is not None:
        with source[0] as file:
            return read(file, source[1], limits)
    raise TypeError(
        f"FaceImageProcessor expects a PIL image, NumPy array, torch tensor, path, URL or bytes; "
        f"got {type(picture).__name__}. Pass the picture in one of these forms."
    )


def reader(picture: Picture | LoadedImage, limits: Limits) -> Callable[[], LoadedImage]:
    """See `FaceImageProcessor.reader`."""
    if not _is_url(picture):
        return partial(load, picture, limits)
    data = _download(picture)
    return lambda: read(BytesIO(data), picture, limits)


# Files


def opened(picture: Picture | LoadedImage) -> tuple[BinaryIO, str] | None:
    """The file of a path, URL or bytes, and what messages call it; `None` for other kinds of pictures."""
    if isinstance(picture, (bytes, bytearray, memoryview)):
        return BytesIO(picture), "The picture"
    if _is_url(picture):
        return BytesIO(_download(picture)), picture
    if isinstance(picture, (str, os.PathLike)):
        return _open_file(Path(picture)), str(picture)
    return None


def _is_url(picture: Picture | LoadedImage) -> bool:
    return isinstance(picture, str) and picture.lower().startswith(("http://", "https://"))


def _download(url: str) -> bytes:
    data = bytearray()
    try:
        with requests.get(url, stream=True, timeout=DIFFUSERS_REQUEST_TIMEOUT) as response:
            response.raise_for_status()
            for chunk in response.iter_content(2**20):
                data += chunk
                if len(data) > LARGEST_FILE:
                    raise ValueError(f"{url} is larger than {LARGEST_FILE / 2**20:g} MiB. Pass a smaller picture.")
    except requests.RequestException as error:
        raise OSError(f"Could not fetch {url}: {one_line(error)}. Check the address, or pass a file.") from error
    return bytes(data)


def _open_file(path: Path) -> BinaryIO:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a picture. Pass the files in it one by one.")
    check_exists(path)
    return open(path, "rb")


def read(file: BinaryIO, name: str, limits: Limits) -> LoadedImage:
    """The picture in a file."""
    return decode(identified(file, name, limits), name, limits, file)


def identified(file: BinaryIO, name: str, limits: Limits) -> Image.Image:
    """The picture in a file, of which only the header has been read."""
    heic.register()
    try:
        with warnings.catch_warnings():  # max_pixels takes the place of Pillow's warning
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(file, formats=_installed(limits.formats))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is too large: {one_line(error)} Downscale the picture first.") from error
    except Exception as error:
        if fault_of(error) is Fault.ENVIRONMENT:
            raise
        file.seek(0)
        if what := heic.lacking(file.read(12)):
            raise UnidentifiedImageError(f"{name}: {what}") from error
        raise UnidentifiedImageError(
            f"{name} is not a picture that is read here ({file.seek(0, os.SEEK_END)} bytes); expected one of "
            f"{', '.join(limits.formats)}. Check the file, or name its format in FaceImageProcessor(formats=…)."
        ) from error


def _installed(formats: Sequence[str]) -> list[str]:
    """Those of the formats that this Pillow has readers for; `Image.open` fails on the name of another."""
    Image.init()
    return [format for format in formats if format.upper() in Image.OPEN]


def decode(image: Image.Image, name: str, limits: Limits, file: BinaryIO | None = None) -> LoadedImage:
    """Of 16-bit colour Pillow keeps 8 bits: all 16 are read again from `file`, which `image` was opened from."""
    check_size(image, name, limits.max_pixels)
    deep_colour = any(";16" in str(tile) for tile in getattr(image, "tile", ())) and image.mode in ("RGB", "RGBA")
    image, remark = _loaded(image, name, file)
    with blamed(name, but=ValueError):
        exif = read_exif(image, file)
        orientation = orientation_of(image)
        planes, alpha, grey, icc_profile, ignored = rgb_planes(image, name)
        if deep_colour and file is not None:
            planes, alpha = _deeper(planes, alpha, file)
        planes, alpha = upright(planes, orientation), upright(alpha, orientation)
        info = ImageInfo(
            grey,
            depth=16 if planes.dtype == np.uint16 else 8,
            format=format_of(image),
            icc_profile=icc_profile,
            jpeg=jpeg_settings(image),
            size=planes.shape[:0:-1],
            dpi=read_dpi(image, exif),
            **read_texts(image, exif),
        )
    del image  # before there are floats, which need three times its memory
    remarks = "; ".join(filter(None, (remark, ignored))) or None
    return replace(_from_planes(planes, alpha, info, name), remark=remarks)


def _loaded(image: Image.Image, name: str, file: BinaryIO | None) -> tuple[Image.Image, str | None]:
    """The picture, decoded, and what there is to say about that."""
    with blamed(name):
        try:
            image.load()
            return image, None
        except Exception:
            with optional():
                if file is not None and format_of(image) == "JPEG" and (found := read_unfinished(file)):
                    logger.warning(f"{name}: {found[1]}.")
                    return found
            raise


def check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    """
    Raises:
        ValueError: where a picture has no pixels, or more than `max_pixels`.
    """
    width, height = image.size
    if width * height == 0:
        raise ValueError(f"{name} has no pixels ({width}×{height}). Pass one of at least 1×1 px.")
    if width * height > max_pixels:
        raise ValueError(
            f"{name} has {width}×{height} px; at most {max_pixels / 1e6:g} megapixels are accepted. "
            "Downscale it, or raise FaceImageProcessor(max_pixels=…)."
        )


def _deeper(planes: np.ndarray, alpha: np.ndarray | None, file: BinaryIO) -> tuple[np.ndarray, np.ndarray | None]:
    """All 16 bits of a colour picture of which Pillow gave the upper 8; only those if OpenCV reads something else or
    the colours have been converted."""
    shallow = planes if alpha is None else np.concatenate([planes, alpha])
    file.seek(0)
    deep = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16 or deep.shape != shallow.transpose(1, 2, 0).shape:
        return planes, alpha
    blue_first = deep.transpose(2, 0, 1)
    deep = np.concatenate([blue_first[2::-1], blue_first[3:]])
    if not np.array_equal(deep >> 8, shallow):
        return planes, alpha
    return deep[:3], None if alpha is None else deep[3:]


# Arrays and tensors


def _planes(array: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
    """Channels first, and checked."""
    planes = array
    if isinstance(array, np.ndarray) and array.ndim in (2, 3):
        planes = np.atleast_3d(array).transpose(2, 0, 1)
    if planes.ndim != 3 or planes.shape[0] not in (1, 3, 4) or 0 in planes.shape:
        raise ValueError(
            "FaceImageProcessor expects NumPy HxW, HxWx1, HxWx3 or HxWx4, or torch [1, H, W], [3, H, W] or [4, H, W]; "
            f"got {list(array.shape)}. Transpose it, or pass a batch to load_all."
        )
    return planes


def _from_planes(
    planes: np.ndarray | torch.Tensor,
    alpha: np.ndarray | None = None,
    info: ImageInfo | None = None,
    name: str = "The picture",
) -> LoadedImage:
    """`planes`: `[1 or 3, H, W]`, or `[4, H, W]` with alpha."""
    if planes.shape[0] == 4:
        planes, alpha = planes[:3], planes[3:]
    if info is None:
        info = ImageInfo(grey=planes.shape[0] == 1, depth=16 if "uint16" in str(planes.dtype) else 8)
    pixels = to_float(planes, name).expand(3, -1, -1).contiguous()
    return LoadedImage(pixels, None if alpha is None else to_float(alpha, name), info)
