"""Pixels in and out: PIL, NumPy, torch, files, bytes and URLs ⇄ RGB float32 tensors `[3, H, W]` in [0, 1].

`reading` turns any kind of source into planes of levels, `colour` makes these sRGB floats, `metadata` keeps what else
the file says, `output` gives a result back in the form its picture came in, and `writing` puts it into a file.
`FaceImageProcessor` (in `processor`) is all of that in one object, as a pipeline holds it. `formats` is what can be
said of a file before it is opened, and takes nothing to import; the rest is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING

from hf_faceenh.pictures.formats import FORMATS, SUFFIXES

if TYPE_CHECKING:
    from hf_faceenh.pictures.metadata import ImageInfo
    from hf_faceenh.pictures.processor import FaceImageProcessor
    from hf_faceenh.pictures.reading import LoadedImage, Picture

__all__ = ["FORMATS", "SUFFIXES", "FaceImageProcessor", "ImageInfo", "LoadedImage", "Picture"]

_HOMES = {"FaceImageProcessor": "processor", "ImageInfo": "metadata", "LoadedImage": "reading", "Picture": "reading"}


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
