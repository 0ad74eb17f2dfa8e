"""Photoshop's image resources, in which JPEG and TIFF files keep IPTC data.

Adobe, Photoshop File Formats Specification, "Image Resource Blocks". By number; no names, for nobody gives them any.
"""

import struct
from collections.abc import Mapping

IPTC = 0x0404
DROPPED = {0x03ED, 0x0409, 0x040C, 0x040F, 0x0422, 0x0424}  # resolution, thumbnails, profile, EXIF, XMP
RAW_PROFILES = {"Raw profile type iptc", "Raw profile type 8bim"}  # ImageMagick's keywords in PNG, which others read
APP13 = b"Photoshop 3.0\0"


def resources(block: bytes) -> dict[int, bytes]:
    """What is in a block, as far as it is whole."""
    found, at = {}, 0
    while block[at : at + 4] == b"8BIM" and at + 12 <= len(block):
        (number,) = struct.unpack_from(">H", block, at + 4)
        at += 6 + (block[at + 6] // 2 + 1) * 2  # past the name and its length
        if at + 4 > len(block):
            break
        (size,) = struct.unpack_from(">I", block, at)
        if at + 4 + size > len(block):
            break
        found[number] = block[at + 4 : at + 4 + size]
        at += 4 + size + size % 2
    return found


def describing(found: Mapping[int, bytes]) -> dict[int, bytes]:
    """Those that are still true of an upscaled picture, and have no other place in a file."""
    return {number: data for number, data in found.items() if number not in DROPPED and isinstance(data, bytes)}


def packed(resources: Mapping[int, bytes]) -> bytes:
    """The block that `resources` reads."""
    return b"".join(
        b"8BIM" + struct.pack(">HHI", number, 0, len(data)) + data + bytes(len(data) % 2)
        for number, data in resources.items()
    )


def from_raw_profile(text: str) -> dict[int, bytes]:
    """The resources in a PNG's text as ImageMagick writes it: a name, a length, and bytes in hexadecimal."""
    try:
        data = bytes.fromhex("".join(text.split()[2:]))
    except ValueError:
        return {}
    return resources(data) if data.startswith(b"8BIM") else {IPTC: data}


def raw_profile(resources: Mapping[int, bytes]) -> str:
    """The text that `from_raw_profile` reads."""
    digits = packed(resources).hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return "\n".join(["", "iptc", f"{len(digits) // 2:8d}", *lines, ""])
