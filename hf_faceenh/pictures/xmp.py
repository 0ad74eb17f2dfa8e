"""What an XMP packet says of the file that it is in, set right for the upscaled picture; all else stays as it is."""

import re

THUMBNAILS = re.compile(rb"<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails\s*>", re.DOTALL)
EXTENDED = re.compile(rb"""\s+xmpNote:HasExtendedXMP\s*=\s*(["'])[^"']*\1""")  # more of it, in segments of a JPEG
PADDING = re.compile(rb"\s{64,}(?=<\?xpacket end)")
SIZES = {b"tiff:ImageWidth": 0, b"exif:PixelXDimension": 0, b"tiff:ImageLength": 1, b"exif:PixelYDimension": 1}
RESOLUTIONS = (b"tiff:XResolution", b"tiff:YResolution")


def adapted(packet: bytes, size: tuple[int, int], factor: float) -> bytes:
    """The packet of a picture that is upright now, has `size` (width, height) in px and is `factor` times as large."""
    for pattern in (THUMBNAILS, EXTENDED):
        packet = pattern.sub(b"", packet)
    packet = PADDING.sub(b"\n" + b" " * 63, packet)
    packet = _set(packet, b"tiff:Orientation", lambda value: b"1")
    for name, axis in SIZES.items():
        packet = _set(packet, name, lambda value, axis=axis: str(size[axis]).encode())
    for name in RESOLUTIONS:
        packet = _set(packet, name, lambda value: _times(value, factor))
    return packet


def _set(packet: bytes, name: bytes, change) -> bytes:
    """Changes a property's value, whether it is written as an attribute or as an element."""
    places = rb"""((?<![\w:])%s(?:\s*=\s*["']|\s*>\s*))(\d[\d/]*)""" % re.escape(name)
    return re.sub(places, lambda found: found[1] + change(found[2]), packet)


def _times(fraction: bytes, factor: float) -> bytes:
    above, _, below = fraction.partition(b"/")
    return b"%d/%s" % (round(int(above) * factor), below or b"1")
