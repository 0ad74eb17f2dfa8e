"""Results into one file, frame after frame: an animation, or the pages of a TIFF."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from hf_faceenh.files import written_whole
from hf_faceenh.pictures import writing
from hf_faceenh.pictures.exif import Entry, Exif, packed
from hf_faceenh.pictures.frames import ANIMATED, PAGED, is_animated
from hf_faceenh.pictures.gif import Palettes
from hf_faceenh.pictures.metadata import ImageInfo

_TAG = ExifTags.Base
LONG = 4
LARGEST_TIFF = 2**32  # bytes


def holds_frames(path: Path, info: ImageInfo, format: str | None) -> bool:
    """See `FaceImageProcessor.holds_frames`."""
    format = writing.output_format(path, info, format)
    return format == PAGED or (format in ANIMATED and is_animated(info))


class FramesWriter:
    """Takes the frames of one file, in their order; see `FaceImageProcessor.frames_writer`.

    Frames of an animation are kept until the last one is there, those of a GIF in few colours; pages go to the disk.
    """

    def __init__(self, path: Path, partial: Path, format: str | None, quality: int | None, provenance: str | None):
        self.path, self.partial = path, partial
        self._asked, self._quality, self._provenance = format, quality, provenance
        self._format = ""
        self._frames: list[Image.Image | np.ndarray] = []
        self._infos: list[ImageInfo] = []
        self._palettes = Palettes()
        self._pages = _Pages(partial)

    def add(self, image: Image.Image | np.ndarray, info: ImageInfo) -> None:
        """Adds a frame.

        Args:
            image: as `to_output` makes it, of type "pil" or "deep".
            info: of the frame that it was made from; an animation's texts are those of its first.

        Raises:
            OSError, ValueError: as `FaceImageProcessor.save`.
        """
        if not self._infos:
            self._format = writing.output_format(self.path, info, self._asked)
        with writing.problems(self.path, self._format):
            self._infos.append(info)
            image = writing.fit_format(image, self._format)
            if self._format == PAGED:
                self._pages.append(writing.encoded(image, info, PAGED, self._quality, self._provenance))
                return
            if self._frames and image.size != self._frames[0].size:  # a crop that was left alone
                image = image.resize(self._frames[0].size)
            self._frames.append(image)
            if self._format == "GIF" and len(self._frames) > 1:
                reducible = self._frames if len(self._frames) == 2 else self._frames[-1:]
                self._frames[-len(reducible) :] = [self._palettes.reduced(frame) for frame in reducible]

    def finish(self) -> None:
        """Writes what was added."""
        if self._format == PAGED:
            return
        with writing.problems(self.path, self._format):
            first, options = self._frames[0], {}
            if len(self._frames) > 1:
                frames, options = _animation(self._frames, self._infos, self._format)
                first, options["append_images"] = frames[0], frames[1:]
            data = writing.encoded(first, self._infos[0], self._format, self._quality, self._provenance, **options)
            self.partial.write_bytes(data)


@contextlib.contextmanager
def frames_writer(
    path: Path, format: str | None, quality: int | None, provenance: str | None
) -> Iterator[FramesWriter]:
    """See `FaceImageProcessor.frames_writer`."""
    writing.check_folder(path)
    with written_whole(path) as partial:
        writer = FramesWriter(path, partial, format, quality, provenance)
        yield writer
        writer.finish()


def _animation(
    frames: list[Image.Image], infos: list[ImageInfo], format: str
) -> tuple[list[Image.Image], dict[str, Any]]:
    """The frames in one mode, and what Pillow's encoder must know of them all."""
    plays = infos[0].plays or 0
    durations = [info.duration for info in infos]
    options: dict[str, Any] = {"save_all": True}
    if durations[0] is None and format == "PNG":
        options["default_image"], durations = True, durations[1:]
    options["duration"] = [duration or 0 for duration in durations]
    if format == "GIF":
        if plays != 1:
            options["loop"] = max(0, plays - 1)
        if any("transparency" in frame.info for frame in frames):
            options["disposal"] = 2  # or the frame before would be seen through this one
        return frames, options
    options |= {"loop": plays} if format in ("WEBP", "PNG") else {}
    options["duration"] = [round(each) for each in options["duration"]] if format != "PNG" else options["duration"]
    modes = {frame.mode for frame in frames}
    alpha = any(mode.endswith("A") for mode in modes)
    mode = modes.pop() if len(modes) == 1 and format == "PNG" else "RGBA" if alpha else "RGB"
    return [frame.convert(mode) for frame in frames], options


class _Pages:
    """Appends pages to a TIFF: each is a TIFF of one page, whose directory is written anew for its place."""

    def __init__(self, path: Path):
        self._path, self._pointer = path, 0

    def append(self, data: bytes) -> None:
        if not self._pointer:
            self._path.write_bytes(data)
            (first,) = struct.unpack_from("<I", data, 4)
            (count,) = struct.unpack_from("<H", data, first)
            self._pointer = first + 2 + 12 * count
            return
        tags = Exif.read(data).tags
        with open(self._path, "r+b") as file:
            start = file.seek(0, 2)
            start += file.write(bytes(start % 2))
            if start + 2 * len(data) > LARGEST_TIFF:
                raise ValueError("a TIFF holds at most 4 GiB")
            place = start + file.write(data)
            place += file.write(bytes(place % 2))
            for tag in (_TAG.StripOffsets, _TAG.TileOffsets):
                if tag in tags:
                    tags[tag] = _moved(tags[tag], start)
            file.write(packed(tags, "<", place))
            file.seek(self._pointer)
            file.write(struct.pack("<I", place))
        self._pointer = place + 2 + 12 * len(tags)


def _moved(entry: Entry, by: int) -> Entry:
    """Offsets, `by` bytes further on."""
    code = {3: "H", 4: "I"}[entry.kind]
    offsets = [offset + by for offset in struct.unpack(f"<{entry.count}{code}", entry.data)]
    return Entry(LONG, entry.count, struct.pack(f"<{entry.count}I", *offsets))
