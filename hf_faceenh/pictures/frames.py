"""The frames of an animation and the pages of a TIFF, read one after the other.

Pillow composes an animation's frames to whole pictures, whatever parts of them the file holds. A page is read as if it
were alone: the header of the file, which says where its first page is, is made to point to it, so that depth, profile
and texts are its own.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from typing import NamedTuple

from PIL import ExifTags, Image

from hf_faceenh.errors import one_line
from hf_faceenh.faults import Fault, blamed, fault_of, optional
from hf_faceenh.pictures import reading
from hf_faceenh.pictures.metadata import ImageInfo
from hf_faceenh.pictures.reading import Limits, LoadedImage, Picture

ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
PAGED = "TIFF"
PAGES = 10  # times `max_pixels` that all pages together may have; they are never in memory at once

_TAG = ExifTags.Base
REDUCED, MASK = 1, 4  # of NewSubfileType: a page that is no picture of its own


class Frames:
    """Reads frame after frame, each when it is asked for; a still picture is one frame.

    Args:
        count: how many there are, as the file says.
        read: gives the one of a number.
        pixels: of all together, as the file says; `None` for a picture that is in no file.

    Attributes:
        remark: once all are read, what is wrong with the file; `None` if nothing is.
    """

    def __init__(self, count: int, read: Callable[[int], LoadedImage], pixels: int | None = None):
        self._count, self._read, self.pixels = count, read, pixels
        self.remark: str | None = None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[LoadedImage]:
        """
        Raises:
            OSError: where the first frame is damaged. Damage to a later one ends the frames, and `remark` says so.
            ValueError: as `FaceImageProcessor.load`.
        """
        for index in range(self._count):
            try:
                frame = self._read(index)
            except OSError as error:
                if index == 0 or fault_of(error) is Fault.ENVIRONMENT:
                    raise
                self.remark = f"only {index} of {self._count} frames could be read: {one_line(error)}"
                return
            self.remark = self.remark or frame.remark
            yield frame


def load_frames(picture: Picture | LoadedImage, limits: Limits) -> Frames:
    """See `FaceImageProcessor.load_frames`."""
    if isinstance(picture, Image.Image) and (count := _count(picture)) > 1:
        return _animation(picture, count, "The picture", limits)
    opened = reading.opened(picture)
    if opened is None:
        return Frames(1, lambda _: reading.load(picture, limits))
    source, name = opened
    with source as file:
        data = file.read()
    image = reading.identified(BytesIO(data), name, limits)
    if image.format == PAGED:
        pages = []
        with optional():
            pages = page_places(data)
        if len(pages) > 1:
            return _pages(data, pages, name, limits)
    if (count := _count(image)) > 1:
        return _animation(image, count, name, limits)
    return Frames(1, lambda _: reading.read(BytesIO(data), name, limits), image.width * image.height)


# Animations


def _count(image: Image.Image) -> int:
    """How many frames an animation has; 1 for all else."""
    if image.format in ANIMATED:
        with optional():
            return image.n_frames
    return 1


def _animation(image: Image.Image, count: int, name: str, limits: Limits) -> Frames:
    width, height = image.size
    if count * width * height > limits.max_pixels:
        raise ValueError(
            f"{name} has {count} frames of {width}×{height} px; at most {limits.max_pixels / 1e6:g} megapixels in all "
            "are accepted. Shorten or downscale it, or raise FaceImageProcessor(max_pixels=…)."
        )
    plays = _plays(image)

    def read(index: int) -> LoadedImage:
        with blamed(name):
            image.seek(index)
            image.load()
        loaded = reading.decode(image, name, limits)
        still = index == 0 and getattr(image, "default_image", False)
        duration = None if still else image.info.get("duration", 0)
        grey = bool((loaded.pixels == loaded.pixels[:1]).all())  # of a GIF, Pillow gives later frames in colour
        return replace(loaded, info=replace(loaded.info, grey=grey, duration=duration, plays=plays))

    return Frames(count, read, count * width * height)


def _plays(image: Image.Image) -> int:
    """How often the animation is shown, 0 for ever. A GIF counts the repetitions after the first time."""
    loop = image.info.get("loop")
    if image.format != "GIF":
        return loop or 0
    return 1 if loop is None else 0 if loop == 0 else loop + 1


def is_animated(info: ImageInfo) -> bool:
    """Whether a picture is a frame of an animation."""
    return info.plays is not None


# Pages


class Page(NamedTuple):
    """Where a page's directory is in the file, and its size in px."""

    place: int
    width: int
    height: int


class _Layout(NamedTuple):
    """Of a TIFF: the order of bytes, where the header says where the first directory is, bytes of an entry, and how
    such a place and the number of entries are packed."""

    order: str
    header: int
    entry: int
    place: str
    number: str


def _layout(data: bytes) -> _Layout:
    order = "<" if data[:2] == b"II" else ">"
    if struct.unpack_from(f"{order}H", data, 2)[0] == 43:  # BigTIFF
        return _Layout(order, 8, 20, f"{order}Q", f"{order}Q")
    return _Layout(order, 4, 12, f"{order}I", f"{order}H")


def page_places(data: bytes) -> Sequence[Page]:
    """The pages of a TIFF file, without those that are smaller copies or masks of others."""
    layout, pages, seen = _layout(data), [], set()
    (place,) = struct.unpack_from(layout.place, data, layout.header)
    while place and place not in seen:
        seen.add(place)
        if place + struct.calcsize(layout.number) > len(data):
            break  # the file is cut off; what is there can be read
        (count,) = struct.unpack_from(layout.number, data, place)
        first = place + struct.calcsize(layout.number)
        tags = dict(_number(data, layout, first + layout.entry * index) for index in range(count))
        if not tags.get(_TAG.NewSubfileType, 0) & (REDUCED | MASK):
            pages.append(Page(place, tags.get(_TAG.ImageWidth, 0), tags.get(_TAG.ImageLength, 0)))
        (place,) = struct.unpack_from(layout.place, data, first + layout.entry * count)
    return pages


def _number(data: bytes, layout: _Layout, at: int) -> tuple[int, int]:
    """An entry's tag and value, where that is one short number."""
    tag, kind = struct.unpack_from(f"{layout.order}HH", data, at)
    code = {3: "H", 4: "I"}.get(kind)
    value_at = at + layout.entry - struct.calcsize(layout.place)
    return tag, struct.unpack_from(layout.order + code, data, value_at)[0] if code else 0


def _pages(data: bytes, pages: Sequence[Page], name: str, limits: Limits) -> Frames:
    total = sum(page.width * page.height for page in pages)
    if total > PAGES * limits.max_pixels:
        raise ValueError(
            f"{name} has {len(pages)} pages with {total / 1e6:.0f} megapixels in all; at most "
            f"{PAGES * limits.max_pixels / 1e6:g} are accepted. Split it, or raise FaceImageProcessor(max_pixels=…)."
        )
    layout, file = _layout(data), BytesIO(data)

    def read(index: int) -> LoadedImage:
        file.seek(layout.header)
        file.write(struct.pack(layout.place, pages[index].place))
        file.seek(0)
        return reading.read(file, f"{name}, page {index + 1}" if index else name, limits)

    return Frames(len(pages), read, total)
