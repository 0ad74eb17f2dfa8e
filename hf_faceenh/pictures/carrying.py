"""What a picture's file said, carried into the file of the result: each thing where the new format has a place for it.

| | JPEG | PNG | TIFF | WebP, AVIF, HEIC | GIF |
| --- | --- | --- | --- | --- | --- |
| EXIF | APP1 | eXIf | tags | EXIF | |
| XMP | APP1 | iTXt | tag 700 | XMP | |
| IPTC | APP13 | text "Raw profile type iptc" | tags 33723, 34377 | | |
| comment | COM | text "Comment" | EXIF UserComment | EXIF UserComment | comment |
| PNG's texts | EXIF, comment | themselves | EXIF, UserComment | EXIF, UserComment | comment |
| resolution | JFIF, EXIF | pHYs, EXIF | tags | EXIF | |
| provenance | EXIF Software | text "Software" | Software | EXIF Software | comment |
"""

from dataclasses import dataclass
from typing import Any

from PIL import ExifTags

from hf_faceenh.pictures import photoshop, png, tiff, xmp
from hf_faceenh.pictures.exif import UNDEFINED, Directory, Entry, Exif, decoded
from hf_faceenh.pictures.metadata import ImageInfo, Text

_TAG, _IFD = ExifTags.Base, ExifTags.IFD
PLACES = {"Title": _TAG.ImageDescription, "Description": _TAG.ImageDescription}  # of PNG's keywords in EXIF
PLACES |= {"Author": _TAG.Artist, "Copyright": _TAG.Copyright, "Software": _TAG.Software}
SEGMENT = 65533  # bytes in a segment of a JPEG
BYTE = 1


@dataclass
class Carried:
    """What the result's file says.

    Args:
        exif, xmp, photoshop, comment, text, dpi: as in `ImageInfo`, true of the result.
        icc_profile: the profile of its pixels.
    """

    exif: Exif
    xmp: bytes
    photoshop: dict[int, bytes]
    comment: str
    text: tuple[Text, ...]
    dpi: tuple[float, float] | None
    icc_profile: bytes | None


def carried(
    info: ImageInfo, format: str, size: tuple[int, int], icc_profile: bytes | None, provenance: str | None
) -> Carried:
    """What a result in `format`, of `size` (width, height) in px, says of the picture that it was made from.

    A resolution grows with the picture's height: a picture of before and after side by side is wider.
    """
    factor = size[1] / info.size[1] if info.size else 1
    exif = Exif.read(info.exif).scaled(factor) if info.exif else Exif()
    result = Carried(
        exif,
        xmp.adapted(info.xmp, size, factor) if info.xmp else b"",
        dict(info.photoshop or {}),
        decoded(info.comment or b""),
        info.text,
        info.dpi and (info.dpi[0] * factor, info.dpi[1] * factor),
        icc_profile,
    )
    if format == "PNG":
        if result.comment and not _find(result.text, "Comment"):
            result.text += (Text("Comment", result.comment),)
        result.text = _with_software(result.text, provenance)
        return result
    _move_texts(result)
    if format in ("GIF", "JPEG2000"):
        result.comment = extended(result.comment, provenance, "\n")
        return result
    if provenance:
        exif.set_text(_TAG.Software, extended(exif.text(_TAG.Software), provenance))
    if format != "JPEG":
        _comment_to_exif(result)
    if result.dpi and format in ("WEBP", "AVIF", "HEIF", "TIFF"):
        exif.set_fraction(_TAG.XResolution, result.dpi[0])
        exif.set_fraction(_TAG.YResolution, result.dpi[1])
        exif.set_number(_TAG.ResolutionUnit, 2)
    return result


def extended(text: str, line: str | None, separator: str = "; ") -> str:
    """`text` with `line` at its end, where it stands once only, however often a picture comes by."""
    if not line:
        return text
    return separator.join([part for part in text.split(separator) if part and part != line] + [line])


def _find(texts: tuple[Text, ...], keyword: str) -> Text | None:
    return next((text for text in texts if text.keyword == keyword), None)


def _with_software(texts: tuple[Text, ...], provenance: str | None) -> tuple[Text, ...]:
    if not provenance:
        return texts
    old = _find(texts, "Software") or Text("Software", "")
    return tuple(text for text in texts if text is not old) + (old._replace(value=extended(old.value, provenance)),)


def _move_texts(result: Carried) -> None:
    """PNG's texts into EXIF where it has a place for them that is empty, else into the comment."""
    lines = [result.comment] if result.comment else []
    for text in result.text:
        place = PLACES.get(text.keyword)
        if place and not result.exif.text(place):
            result.exif.set_text(place, text.value)
        elif not place or result.exif.text(place) != text.value:
            lines.append(text.value if text.keyword == "Comment" else f"{text.keyword}: {text.value}")
    result.comment, result.text = "\n".join(lines), ()


def _comment_to_exif(result: Carried) -> None:
    """Into UserComment, if that is empty; its first 8 bytes name the encoding."""
    details = result.exif.tags.setdefault(_IFD.Exif, {})
    old = details.get(_TAG.UserComment)
    if result.comment and (old is None or not old.data[8:].strip(b"\0 ")):
        if result.comment.isascii():
            data = b"ASCII\0\0\0" + result.comment.encode()
        else:
            data = b"UNICODE\0" + result.comment.encode("utf-16-le" if result.exif.order == "<" else "utf-16-be")
        details[_TAG.UserComment] = Entry(UNDEFINED, len(data), data)
    if not details:
        del result.exif.tags[_IFD.Exif]


def encoder_options(carried: Carried, format: str) -> dict[str, Any]:
    """What Pillow's encoders put into the file; the rest is for `completed`."""
    options: dict[str, Any] = {}
    if format in ("JPEG", "WEBP", "AVIF", "HEIF"):
        options["icc_profile"] = carried.icc_profile
    if format in ("WEBP", "AVIF", "HEIF"):
        options |= {"exif": carried.exif.tobytes(), "xmp": carried.xmp}
    if format in ("GIF", "JPEG2000"):
        options["comment"] = carried.comment.encode()
    if format in ("JPEG", "BMP"):
        options["dpi"] = tuple(min(each, 65535) for each in carried.dpi or (0, 0))
    return {name: value for name, value in options.items() if value}


def completed(data: bytes, carried: Carried, format: str, alpha: bool) -> bytes:
    """An encoded JPEG, PNG or TIFF with all that is carried; another format as it is."""
    if format == "JPEG":
        return _with_segments(data, carried)
    if format == "PNG":
        return png.with_chunks(data, _chunks(carried))
    if format == "TIFF":
        return tiff.with_tags(data, _tags(carried) | ({_TAG.ExtraSamples: Entry(3, 1, b"\2\0")} if alpha else {}))
    return data


def _with_segments(data: bytes, carried: Carried) -> bytes:
    """A JPEG with more segments after its first, JFIF's; those that would not fit are left out."""
    at = 4 + int.from_bytes(data[4:6], "big")
    contents = [
        (b"\xff\xe1", carried.exif.tobytes(SEGMENT)),
        (b"\xff\xe1", carried.xmp and b"http://ns.adobe.com/xap/1.0/\0" + carried.xmp),
        (b"\xff\xed", carried.photoshop and photoshop.APP13 + photoshop.packed(carried.photoshop)),
        (b"\xff\xfe", carried.comment.encode()[:SEGMENT]),
    ]
    segments = b"".join(
        marker + (len(content) + 2).to_bytes(2, "big") + content
        for marker, content in contents
        if content and len(content) <= SEGMENT
    )
    return data[:at] + segments + data[at:]


def _chunks(carried: Carried) -> list[tuple[bytes, bytes]]:
    exif = carried.exif.tobytes()
    texts = list(carried.text)
    if carried.photoshop:
        texts.append(Text("Raw profile type iptc", photoshop.raw_profile(carried.photoshop)))
    return (
        ([png.profile(carried.icc_profile)] if carried.icc_profile else [])
        + ([png.resolution(carried.dpi)] if carried.dpi else [])
        + ([(b"eXIf", exif[6:])] if exif else [])
        + ([png.packet(carried.xmp)] if carried.xmp else [])
        + [png.text(text) for text in texts]
    )


def _tags(carried: Carried) -> Directory:
    tags = carried.exif.in_order("<").tags
    resources = dict(carried.photoshop)
    blocks = {
        _TAG.XMLPacket: (BYTE, carried.xmp),
        _TAG.ImageResources: (BYTE, photoshop.packed(resources)),
        _TAG.IPTCNAA: (UNDEFINED, resources.get(photoshop.IPTC)),
        _TAG.InterColorProfile: (UNDEFINED, carried.icc_profile),
    }
    return tags | {int(tag): Entry(kind, len(data), data) for tag, (kind, data) in blocks.items() if data}
