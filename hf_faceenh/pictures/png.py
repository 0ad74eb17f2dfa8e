"""PNG chunks: what a PNG says beside its pixels, put into one that somebody else has encoded."""

import struct
import zlib
from collections.abc import Sequence

from hf_faceenh.pictures.metadata import Text

FIRST = 33  # bytes up to the end of IHDR, which comes first
LONG = 1024  # characters from which a text is compressed


def with_chunks(data: bytes, chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A PNG file with more chunks (type and content), right after its header, where all of this module's may stand."""
    return data[:FIRST] + b"".join(_chunk(kind, content) for kind, content in chunks) + data[FIRST:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def profile(icc_profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile)


def resolution(dpi: tuple[float, float]) -> tuple[bytes, bytes]:
    across, down = (min(round(each / 0.0254), 2**31 - 1) for each in dpi)  # per metre
    return b"pHYs", struct.pack(">IIB", across, down, 1)


def packet(xmp: bytes) -> tuple[bytes, bytes]:
    return b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp


def text(text: Text) -> tuple[bytes, bytes]:
    """tEXt or, where it is long, zTXt; iTXt where Latin-1 does not do or a language is given."""
    keyword = text.keyword.encode("latin-1", "replace")[:79]
    try:
        plain = text.value.encode("latin-1")
    except UnicodeEncodeError:
        plain = None
    if plain is None or text.language or text.translated:
        value, flag = text.value.encode(), b"\0\0"
        if len(value) > LONG:
            value, flag = zlib.compress(value), b"\1\0"
        tags = text.language.encode() + b"\0" + text.translated.encode() + b"\0"
        return b"iTXt", keyword + b"\0" + flag + tags + value
    if len(plain) > LONG:
        return b"zTXt", keyword + b"\0\0" + zlib.compress(plain)
    return b"tEXt", keyword + b"\0" + plain
