"""FaceImageProcessor: reading pictures and giving results back, as one component of a pipeline."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import torch
from PIL import Image

# By this name, in this module: diffusers looks here for the base class that tells it how to load the component.
from transformers import ImageProcessingMixin

from hf_faceenh.pictures import frames, moving, output, reading, writing
from hf_faceenh.pictures.formats import FORMATS, MAX_PIXELS
from hf_faceenh.pictures.frames import Frames
from hf_faceenh.pictures.metadata import ImageInfo
from hf_faceenh.pictures.reading import Limits, LoadedImage, Picture


class FaceImageProcessorKwargs(TypedDict, total=False):
    max_pixels: int
    formats: list[str]


class FaceImageProcessor(ImageProcessingMixin):
    """Reads pictures of every common kind, and gives results back in the form the picture came in.

    Args:
        max_pixels: a larger picture is refused by its header, before it is decoded: a file of a few kilobytes can
            unpack to gigabytes. Pillow's own limit, 2 × `PIL.Image.MAX_IMAGE_PIXELS` (179 megapixels), stands too.
        formats: Pillow's names of the formats that are opened, whatever a file is called; no other reader sees the
            file, and so none that would start another program.

    Raises:
        ValueError: for EPS among the formats: the config of a stranger's model folder could name it.
    """

    valid_kwargs = FaceImageProcessorKwargs

    def __init__(self, max_pixels: int = MAX_PIXELS, formats: Sequence[str] = FORMATS, **kwargs):
        super().__init__(**kwargs)
        if "EPS" in formats:
            raise ValueError("EPS is not opened: Pillow would start Ghostscript. Convert the picture to PNG first.")
        self.max_pixels = max_pixels
        self.formats = list(formats)

    @property
    def limits(self) -> Limits:
        """What is read."""
        return Limits(self.max_pixels, tuple(self.formats))

    def load(self, picture: Picture | LoadedImage) -> LoadedImage:
        """Reads one picture.

        EXIF orientation is applied. The pixels stay in the picture's own RGB or grey, whose profile is kept in `info`;
        CMYK, Lab and linear light become sRGB (in 8 bits, for that is what Little CMS does in Pillow). An unfitting
        profile is ignored, and so is a damaged one, of which `remark` tells. Of an animation the first frame is read
        (see `load_frames`). 16-bit grey and, from files, bytes and URLs, 16-bit colour keep their depth.

        Args:
            picture: `PIL.Image.Image`; NumPy `HxW`, `HxWx1`, `HxWx3` or `HxWx4`, uint8, uint16 or float in [0, 1];
                torch `[1, H, W]`, `[3, H, W]` or `[4, H, W]`, uint8, uint16 or float in [0, 1] (stays on its device);
                a path; the bytes of a file; an http(s) URL; or a `LoadedImage`, which is returned as it is.

        Raises:
            OSError: missing, unreadable, damaged or none of the `formats` (`FileNotFoundError`, `IsADirectoryError`,
                `PIL.UnidentifiedImageError` among them).
            MemoryError: too little memory.
            ValueError: wrong shape or value range, no pixels, more than `max_pixels`, a download that is too large.
            TypeError: none of the types above.
        """
        return reading.load(picture, self.limits)

    def reader(self, picture: Picture | LoadedImage) -> Callable[[], LoadedImage]:
        """`load` of one picture, for who may need it more than once: a URL is fetched now, and never again.

        Raises what `load` raises for a URL that cannot be fetched.
        """
        return reading.reader(picture, self.limits)

    def load_all(self, images: Picture | LoadedImage | Sequence[Picture | LoadedImage]) -> list[LoadedImage]:
        """Reads one picture, a list or tuple of them, or a batch `[B, C, H, W]` (torch) or `BxHxWxC` (NumPy).

        Raises what `load` and `separate` raise.
        """
        return [self.load(picture) for picture in self.separate(images)]

    def separate(self, images: Picture | LoadedImage | Sequence[Picture | LoadedImage]) -> list[Picture | LoadedImage]:
        """What `load_all` reads, as a list of what `load` reads; nothing is read yet.

        Raises:
            ValueError: for an empty list.
        """
        batch = isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim == 4
        pictures = list(images) if batch or isinstance(images, (list, tuple)) else [images]
        if not pictures:
            raise ValueError("FaceImageProcessor expects at least one picture; got an empty list. Pass one or more.")
        return pictures

    def load_frames(self, picture: Picture | LoadedImage) -> Frames:
        """Reads an animation (GIF, WebP, PNG, AVIF) frame by frame, or a TIFF of several pages page by page: an
        iterable with a length, which is 1 for every other picture. A frame is whole, whatever part of it the file
        holds, and its `info` says how long it is shown; a page has its own size, depth and texts.

        Raises what `load` raises, now or when a frame is asked for, and `ValueError` where the frames of an animation
        have together more than `max_pixels`, or the pages of a file ten times as many. Where a later frame is damaged,
        the frames end before it, and `Frames.remark` says so.
        """
        return frames.load_frames(picture, self.limits)

    def to_output(
        self, pixels: torch.Tensor, loaded: LoadedImage, output_type: Literal["pil", "deep", "np", "pt"] = "pil"
    ) -> Image.Image | np.ndarray | torch.Tensor:
        """Gives a result back in the form that its picture came in, with its alpha channel scaled to the new size.

        Args:
            pixels: `[3, H, W]` RGB in [0, 1] (clamped here), on any device, in any float precision, of any size.
            loaded: the picture that `pixels` were made from.
            output_type: `"pil"`: mode L, LA, RGB or RGBA, and I;16 for a 16-bit grey picture (Pillow has no 16-bit
                colour); `"deep"`: the same, but for a picture of 16-bit colour, which is given back as NumPy uint16
                `HxWx3` or `HxWx4`; `"np"`: float32 `HxWx3`, `HxWx4` with alpha, in [0, 1]; `"pt"`: the same as
                `[3, H, W]` or `[4, H, W]`, on the device of `pixels`.
        """
        return output.to_output(pixels, loaded.alpha, loaded.info, output_type)

    def save(
        self,
        image: Image.Image | np.ndarray,
        path: str | os.PathLike,
        info: ImageInfo | None = None,
        format: str | None = None,
        quality: int | None = None,
        provenance: str | None = None,
    ) -> None:
        """Writes a picture, whole or not at all, in the manner of the one it was made from.

        JPEG has full colour resolution and is nowhere quantised more coarsely than at quality 95, nor than the JPEG
        that `image` was made from. Texts, EXIF, profile and resolution of `info` are written as far as the format has
        a place for them (`carrying` has a table); the resolution grows with the picture, so that a print keeps its
        size. Where the format holds no alpha, the picture is laid onto white; where it holds no 16 bits, it gets 8.

        Args:
            image: a picture as `to_output` makes it, of type "pil" or "deep".
            path: where to; an existing file is replaced.
            info: of the picture that `image` was made from.
            format: a Pillow format name or a suffix; by default that of `path`, else that of `info`, else PNG.
            quality: of JPEG, WebP and AVIF, 1…100; 95 by default.
            provenance: a line that says what was done to the picture (`provenance.line` makes one), added to
                what the file says of its software.

        Raises:
            OSError: no such folder, not writable, disk full, or a size that the format cannot hold.
            ValueError: a format that Pillow cannot write.
        """
        writing.save(image, Path(path), info or ImageInfo(), format, quality, provenance)

    def frames_writer(
        self,
        path: str | os.PathLike,
        format: str | None = None,
        quality: int | None = None,
        provenance: str | None = None,
    ) -> AbstractContextManager[moving.FramesWriter]:
        """Writes frames into one file, whole or not at all: `with` it, `add(image, info)` takes the result of one
        frame after the other. Durations, and how often an animation is shown, are those of the infos. Arguments are
        those of `save`, which it equals where only one frame is added.

        Raises what `save` raises.
        """
        return moving.frames_writer(Path(path), format, quality, provenance)

    def holds_frames(self, path: str | os.PathLike, info: ImageInfo, format: str | None = None) -> bool:
        """Whether a file has room for all frames of a picture of which `info` is the first's: GIF, WebP, PNG and AVIF
        for those of an animation, TIFF for them and for pages.

        Raises:
            ValueError: a format that Pillow cannot write.
        """
        return moving.holds_frames(Path(path), info, format)

    def check(
        self, path: str | os.PathLike, size: tuple[int, int], info: ImageInfo | None = None, format: str | None = None
    ) -> None:
        """Checks, before the work, that `save` can write a picture of `size` (width, height) in px.

        Raises:
            ValueError: a size that the format cannot hold, or a format that Pillow cannot write.
        """
        path = Path(path)
        writing.check_size(path, writing.output_format(path, info or ImageInfo(), format), *size)
