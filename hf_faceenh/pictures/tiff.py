"""What a TIFF says beside its pixels, put into one that somebody else has encoded."""

import struct

from hf_faceenh.pictures.exif import Directory, packed


def with_tags(data: bytes, tags: Directory) -> bytes:
    """A little-endian TIFF file with more entries in its first directory, which moves to the end of the file."""
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    raw = [data[at : at + 12] for at in range(first + 2, first + 2 + 12 * count, 12)]
    (following,) = struct.unpack_from("<I", data, first + 2 + 12 * count)
    entries: Directory = {struct.unpack("<H", entry[:2])[0]: entry for entry in raw}
    data += bytes(len(data) % 2)
    directory = packed(entries | tags, "<", len(data), following)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory
