"""What a file says about its picture, beside the pixels: orientation, EXIF, other texts, resolution, JPEG settings."""

from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin

from hf_faceenh.faults import optional
from hf_faceenh.pictures import photoshop
from hf_faceenh.pictures.exif import Exif

_TAG = ExifTags.Base
INCH = {2: 1, 3: 2.54}  # per unit of EXIF's resolution
# PNG texts that have been read into another field.
ELSEWHERE = photoshop.RAW_PROFILES | {"XML:com.adobe.xmp", "exif", "Raw profile type exif", "Raw profile type APP1"}


class Text(NamedTuple):
    """A text of a PNG: keyword, value, and for international ones the language and the keyword in it."""

    keyword: str
    value: str
    language: str = ""
    translated: str = ""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is needed, beside the pixels, to give a picture back in the form it came in.

    Args:
        grey: whether the picture has no colour.
        depth: bits per channel, 8 or 16 (8 for float arrays and tensors).
        format: Pillow's name of the file format, e.g. `"JPEG"`; `None` where there was no file.
        exif: EXIF block (date, camera, place, …) without orientation, thumbnail and size; `None` if there is none.
        icc_profile: the profile of the pixels, to write with them; `None` if the picture carried none.
        jpeg: `qtables` of a JPEG, for luminance and chrominance, as Pillow's encoder takes them; `None` for other
            formats.
        size: width and height in px, upright; `None` where the picture's resolution is nobody's concern.
        dpi: pixels per inch, across and down; `None` if the file does not say.
        xmp: the XMP packet.
        photoshop: Photoshop's image resources by number; IPTC is one of them, `photoshop.IPTC`.
        comment: of a JPEG or GIF.
        text: of a PNG.
        duration: ms for which an animation shows this frame; `None` for a page, and for the first picture of an
            animated PNG where it is not part of the animation.
        plays: how often the animation is shown, 0 for ever; `None` for what is no frame of one.
    """

    grey: bool = False
    depth: int = 8
    format: str | None = None
    exif: bytes | None = None
    icc_profile: bytes | None = None
    jpeg: dict[str, Any] | None = None
    size: tuple[int, int] | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    photoshop: dict[int, bytes] | None = None
    comment: bytes | None = None
    text: tuple[Text, ...] = ()
    duration: float | None = None
    plays: int | None = None


def read_exif(image: Image.Image, file: BinaryIO | None) -> Exif:
    """The EXIF block, from `file` if `image` was opened from it. A damaged one is no reason to refuse the picture."""
    with optional():
        if file is not None and image.format == "TIFF":
            return Exif.read(file)
        if file is not None and "exif" in image.info:
            return Exif.read(image.info["exif"])
        if len(exif := image.getexif()):  # of a picture in memory, whose owner may have changed it
            return Exif.read(exif.tobytes())
    return Exif()


def orientation_of(image: Image.Image) -> int:
    """1…8, as EXIF or else XMP says of a loaded picture; 1 for a TIFF, which Pillow has turned already."""
    with optional():
        return int(image.getexif().get(_TAG.Orientation, 1))
    return 1


def read_texts(image: Image.Image, exif: Exif) -> dict[str, Any]:
    """All texts, as arguments of `ImageInfo`."""
    xmp, comment = image.info.get("xmp"), image.info.get("comment")
    if isinstance(comment, str):
        comment = comment.encode()
    return {
        "exif": exif.describing().tobytes() or None,
        "xmp": xmp if isinstance(xmp, bytes) else xmp.encode() if isinstance(xmp, str) else None,
        "photoshop": _photoshop(image, exif) or None,
        "comment": comment or None,
        "text": tuple(
            Text(keyword, str(value), getattr(value, "lang", None) or "", getattr(value, "tkey", None) or "")
            for keyword, value in getattr(image, "text", {}).items()
            if keyword not in ELSEWHERE
        ),
    }


def _photoshop(image: Image.Image, exif: Exif) -> dict[int, bytes]:
    found = dict(image.info.get("photoshop") or {})
    for keyword, value in getattr(image, "text", {}).items():
        if keyword in photoshop.RAW_PROFILES:
            found |= photoshop.from_raw_profile(value)
    if image.format == "TIFF":
        if _TAG.ImageResources in exif.tags:
            found |= photoshop.resources(exif.tags[_TAG.ImageResources].data)
        if _TAG.IPTCNAA in exif.tags:
            found[photoshop.IPTC] = exif.tags[_TAG.IPTCNAA].data
    return photoshop.describing(found)


def read_dpi(image: Image.Image, exif: Exif) -> tuple[float, float] | None:
    """What the file itself says, else what EXIF says. Pillow's own answer is 72 where a JPEG says nothing."""
    dpi = image.info.get("dpi")
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.info.get("jfif_unit") not in (1, 2):
        dpi = None
    if image.format == "TIFF" or dpi is None:
        unit = INCH.get(exif.number(_TAG.ResolutionUnit) or 2)
        resolution = exif.fraction(_TAG.XResolution), exif.fraction(_TAG.YResolution)
        dpi = tuple(unit * each for each in resolution) if unit and all(resolution) else None
    if dpi is None or not all(0 < each < 1e6 for each in dpi):
        return None
    return float(dpi[0]), float(dpi[1])


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
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not image.quantization:
        return None
    tables = [image.quantization.get(number) for *_, number in image.layer]
    if None in tables:
        return None
    chrominance = [min(levels) for levels in zip(*tables[1:] or tables, strict=True)]
    return {"qtables": [list(tables[0]), chrominance]}
