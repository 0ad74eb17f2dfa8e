"""What a file says about its picture, beside the pixels: orientation, EXIF, JPEG settings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin

from hf_faceenh.pictures.formats import DAMAGE

_TAG, _IFD = ExifTags.Base, ExifTags.IFD
# The tags that describe the photograph; all others of the first directory describe the file that it came in.
KEPT_EXIF = (
    (_TAG.ImageDescription, _TAG.Make, _TAG.Model, _TAG.Software, _TAG.DateTime, _TAG.Artist, _TAG.HostComputer)
    + (_TAG.Copyright, _TAG.XResolution, _TAG.YResolution, _TAG.ResolutionUnit)
)  # fmt: skip
# Untrue of an upscaled picture, or offsets into the old file.
DROPPED_EXIF = {_TAG.ExifImageWidth, _TAG.ExifImageHeight, _TAG.MakerNote, _IFD.Interop}


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is needed, beside the pixels, to give a picture back in the form it came in.

    Args:
        grey: whether the picture has no colour.
        depth: bits per channel, 8 or 16 (8 for float arrays and tensors).
        format: Pillow's name of the file format, e.g. `"JPEG"`; `None` where there was no file.
        exif: EXIF block (date, camera, place, …) without orientation, thumbnail and size; `None` if there is none.
        icc_profile: the sRGB profile to write with the pixels; `None` if the picture carried no colour profile.
        jpeg: `qtables` and `subsampling` of a JPEG, as Pillow's encoder takes them; `None` for other formats.
    """

    grey: bool = False
    depth: int = 8
    format: str | None = None
    exif: bytes | None = None
    icc_profile: bytes | None = None
    jpeg: dict[str, Any] | None = None


def read_exif(image: Image.Image) -> tuple[int, bytes | None]:
    """Orientation (1…8) and the EXIF block to keep. A damaged block is no reason to refuse the picture."""
    orientation = 1
    try:
        exif, kept = image.getexif(), Image.Exif()
        orientation = int(exif.get(_TAG.Orientation, 1))
        for tag in KEPT_EXIF:
            if tag in exif:
                kept[tag] = exif[tag]
        for directory in (_IFD.Exif, _IFD.GPSInfo):
            tags = {tag: value for tag, value in exif.get_ifd(directory).items() if tag not in DROPPED_EXIF}
            if tags:
                kept[directory] = tags
        return orientation, kept.tobytes() if len(kept) else None
    except DAMAGE:
        return orientation, None


def upright(planes: np.ndarray | None, orientation: int) -> np.ndarray | None:
    """Applies EXIF orientation to `[C, H, W]`: a view."""
    if planes is None:
        return None
    if orientation in (5, 6, 7, 8):
        planes = planes.swapaxes(1, 2)
    return np.flip(planes, {2: 2, 3: (1, 2), 4: 1, 6: 2, 7: (1, 2), 8: 1}.get(orientation, ()))


def format_of(image: Image.Image) -> str | None:
    """Pillow's name of the format; JPEG for a telephone's MPO, whose first picture is one."""
    return "JPEG" if image.format == "MPO" else image.format


def jpeg_settings(image: Image.Image) -> dict[str, Any] | None:
    """What `ImageInfo.jpeg` keeps."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    return {"qtables": image.quantization, "subsampling": JpegImagePlugin.get_sampling(image)}
