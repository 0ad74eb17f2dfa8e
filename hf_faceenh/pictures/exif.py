"""EXIF blocks and TIFF directories, entry by entry as they stand in the file.

What is kept is kept to the byte, whatever its type and text encoding. A TIFF file and an EXIF block are the same
thing (TIFF 6.0, section 2; CIPA DC-008, section 4.6): entries of 12 bytes, whose values stand elsewhere if they are
longer than 4.
"""

import struct
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags

_TAG, _IFD = ExifTags.Base, ExifTags.IFD
HEADER = b"Exif\0\0"
DIRECTORIES = {_IFD.Exif, _IFD.GPSInfo, _IFD.Interop}
SIZES = dict(zip(range(1, 14), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), strict=True))  # bytes of a value, by its type
SWAPPED = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}  # bytes whose order depends on the machine
ASCII, SHORT, RATIONAL, UNDEFINED = 2, 3, 5, 7
LONG = 4096  # bytes of an entry that may be left out
LARGEST = 2**20  # bytes of an entry; a picture's description is never that long

# Of the numbers that TIFF gives out for files, those that describe the photograph.
KEPT = {_TAG.DocumentName, _TAG.ImageDescription, _TAG.Make, _TAG.Model, _TAG.XResolution, _TAG.YResolution}
KEPT |= {_TAG.PageName, _TAG.ResolutionUnit, _TAG.Software, _TAG.DateTime, _TAG.Artist, _TAG.HostComputer}
OTHERS = range(_TAG.Rating, 50706)  # up to those of raw files
# Of the others, those that are untrue of an upscaled picture, offsets into the old file, or have a place of their own.
DROPPED = {_TAG.ExifImageWidth, _TAG.ExifImageHeight, _TAG.MakerNote, _TAG.SubjectLocation, 0x9214, 59932}
DROPPED |= {33723, 34377, 34675, 37724}  # IPTC, Photoshop's resources, profile, Photoshop's layers
DROPPED |= {33550, 33922, 34264, 34735, 34736, 34737}  # places on a map
SCALED = {_TAG.XResolution, _TAG.YResolution, _TAG.FocalPlaneXResolution, _TAG.FocalPlaneYResolution}


class Entry(NamedTuple):
    """`count` values of a TIFF type, as bytes."""

    kind: int
    count: int
    data: bytes


Directory = dict[int, "Entry | Directory | bytes"]  # bytes: an entry as it stands, its value elsewhere in the file


@dataclass
class Exif:
    """What an EXIF block says.

    Args:
        order: of bytes: "<" or ">".
        tags: the first directory, with the others in it.
    """

    order: str = "<"
    tags: Directory = field(default_factory=dict)

    @classmethod
    def read(cls, source: bytes | BinaryIO) -> "Exif":
        """From a block, or a TIFF file. An entry that is damaged is left out.

        Raises:
            ValueError, struct.error: where there is no directory.
        """
        file = BytesIO(source.removeprefix(HEADER)) if isinstance(source, bytes) else source
        file.seek(0)
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None:
            raise ValueError("no EXIF block")
        big = struct.unpack_from(f"{order}H", head, 2)[0] == 43  # BigTIFF
        (first,) = struct.unpack_from(f"{order}Q", head, 8) if big else struct.unpack_from(f"{order}I", head, 4)
        return cls(order, _read_directory(file, order, first, big, DIRECTORIES))

    def tobytes(self, largest: int = 2**32) -> bytes:
        """The block, or nothing if it is empty. One that has more than `largest` bytes loses its long entries."""
        if not self.tags:
            return b""
        head = (b"II*\0" if self.order == "<" else b"MM\0*") + struct.pack(f"{self.order}I", 8)
        block = HEADER + head + packed(self.tags, self.order, 8)
        return block if len(block) <= largest else Exif(self.order, _short(self.tags)).tobytes()

    def describing(self) -> "Exif":
        """Without all that describes the file, its size and its orientation, but not the photograph."""
        return Exif(self.order, _describing(self.tags))

    def scaled(self, factor: float) -> "Exif":
        """With resolutions as they are in a picture `factor` times as large."""
        return Exif(self.order, _scaled(self.tags, self.order, factor))

    def in_order(self, order: str) -> "Exif":
        """The same with another order of bytes."""
        return self if order == self.order else Exif(order, _swapped(self.tags))

    # Values

    def number(self, tag: int) -> int | None:
        """The first of the whole numbers of an entry."""
        entry = self.tags.get(tag)
        code = {3: "H", 4: "I"}.get(getattr(entry, "kind", 0))
        return struct.unpack_from(self.order + code, entry.data)[0] if code else None

    def fraction(self, tag: int) -> float | None:
        entry = self.tags.get(tag)
        if getattr(entry, "kind", 0) != RATIONAL:
            return None
        above, below = struct.unpack_from(f"{self.order}2I", entry.data)
        return above / below if below else None

    def text(self, tag: int) -> str:
        """Of an ASCII entry, whose bytes many programs take for UTF-8."""
        entry = self.tags.get(tag)
        return decoded(entry.data.rstrip(b"\0 ")) if getattr(entry, "kind", 0) == ASCII else ""

    def set_text(self, tag: int, text: str) -> None:
        data = text.encode() + b"\0"
        self.tags[tag] = Entry(ASCII, len(data), data)

    def set_fraction(self, tag: int, value: float) -> None:
        self.tags[tag] = Entry(RATIONAL, 1, struct.pack(f"{self.order}2I", *_ratio(value)))

    def set_number(self, tag: int, value: int) -> None:
        self.tags[tag] = Entry(SHORT, 1, struct.pack(f"{self.order}H", value))


def decoded(text: bytes) -> str:
    """UTF-8 if it is that, else Latin-1, which everything is."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def packed(tags: Directory, order: str, at: int, following: int = 0) -> bytes:
    """A directory and its values, to stand at offset `at` of a block; `following` is the offset of the next one."""
    entries, values = [], b""
    after = at + 2 + 12 * len(tags) + 4
    for tag, entry in sorted(tags.items()):
        if isinstance(entry, bytes):
            entries.append(entry)
            continue
        if isinstance(entry, dict):
            offset = after + len(values)
            values += packed(entry, order, offset)
            entry = Entry(4, 1, struct.pack(f"{order}I", offset))
        data = entry.data.ljust(4, b"\0")
        if len(data) > 4:
            offset = after + len(values)
            values += data + bytes(len(data) % 2)
            data = struct.pack(f"{order}I", offset)
        entries.append(struct.pack(f"{order}HHI", tag, entry.kind, entry.count) + data)
    return struct.pack(f"{order}H", len(entries)) + b"".join(entries) + struct.pack(f"{order}I", following) + values


def _read_directory(file: BinaryIO, order: str, offset: int, big: bool, nested: set[int]) -> Directory:
    layout, wide = (f"{order}HHQ8s", 8) if big else (f"{order}HHI4s", 4)
    pointer = order + ("Q" if big else "I")
    file.seek(offset)
    count_layout = order + ("Q" if big else "H")
    (count,) = struct.unpack(count_layout, file.read(struct.calcsize(count_layout)))
    table = file.read(min(count, 4096) * struct.calcsize(layout))
    table = table[: len(table) // struct.calcsize(layout) * struct.calcsize(layout)]
    tags: Directory = {}
    for tag, kind, number, value in struct.iter_unpack(layout, table):
        if tag in nested:
            target = struct.unpack(pointer, value)[0] if big else struct.unpack(pointer, value)[0]
            try:
                tags[tag] = _read_directory(file, order, target, big, nested - {tag})
            except (struct.error, OSError, ValueError):
                continue
            continue
        size = SIZES.get(kind, LARGEST) * number
        if size >= LARGEST:
            continue
        if size > wide:
            file.seek(struct.unpack(pointer, value)[0])
            value = file.read(size)
        if len(value) >= size:
            tags[tag] = Entry(kind, number, value[:size])
    return tags


def _describing(tags: Directory, first: bool = True) -> Directory:
    kept: Directory = {}
    for tag, entry in tags.items():
        if isinstance(entry, dict):
            inner = _describing(entry, first=False)
            kept |= {tag: inner} if inner else {}
        elif tag not in DROPPED and (not first or tag in KEPT or tag in OTHERS):
            kept[tag] = entry
    return kept


def _short(tags: Directory) -> Directory:
    return {
        tag: _short(entry) if isinstance(entry, dict) else entry
        for tag, entry in tags.items()
        if isinstance(entry, dict) or len(entry.data) < LONG
    }


def _scaled(tags: Directory, order: str, factor: float) -> Directory:
    scaled: Directory = {}
    for tag, entry in tags.items():
        if isinstance(entry, dict):
            entry = _scaled(entry, order, factor)
        elif tag in SCALED and entry.kind == RATIONAL and entry.count == 1:
            above, below = struct.unpack(f"{order}2I", entry.data)
            if below:
                entry = Entry(RATIONAL, 1, struct.pack(f"{order}2I", *_ratio(above / below * factor)))
        scaled[tag] = entry
    return scaled


def _swapped(tags: Directory) -> Directory:
    swapped: Directory = {}
    for tag, entry in tags.items():
        if isinstance(entry, dict):
            swapped[tag] = _swapped(entry)
        else:
            data = np.frombuffer(entry.data, f"u{SWAPPED.get(entry.kind, 1)}").byteswap().tobytes()
            swapped[tag] = entry._replace(data=data)
    return swapped


def _ratio(value: float) -> tuple[int, int]:
    """As a fraction of two 32-bit numbers."""
    if value == round(value):
        return min(round(value), 2**32 - 1), 1
    below = 10000 if value < 400_000 else 1
    return min(round(value * below), 2**32 - 1), below
