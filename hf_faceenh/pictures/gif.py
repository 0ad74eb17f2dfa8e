"""The colours of a GIF: 255 of a frame's own, and one for what is transparent.

An animation must not flicker where nothing moves. So a frame keeps the colours of the one before unless its own
do much better, and a pixel that hardly changes keeps its colour: only what moves is dithered anew.
"""

import numpy as np
from PIL import Image

TRANSPARENT = 255  # which of the colours
SIDE = 512  # px of the picture that colours are chosen by
WORSE = 3  # times the mean squared error of its own colours, up to which a frame keeps those of the one before
STILL = 3  # levels by which a pixel may change and keep its colour


def _with_colours(palette: list[int]) -> Image.Image:
    """A picture with 256 colours, the missing ones like the first: Pillow would take others and use them."""
    image = Image.new("P", (1, 1))
    image.putpalette(palette + palette[:3] * (256 - len(palette) // 3))
    return image


GREYS = _with_colours([round(level / (TRANSPARENT - 1) * 255) for level in range(TRANSPARENT) for _ in range(3)])


class Palettes:
    """Frames in few colours, one after the other; all of one size."""

    def __init__(self):
        self._colours: Image.Image | None = None  # a picture of mode P that has them
        self._pixels: np.ndarray | None = None  # HxWx4, those whose colours `_indices` are
        self._indices: np.ndarray | None = None

    def reduced(self, image: Image.Image) -> Image.Image:
        """A frame of any mode → mode P, with `info["transparency"]` if something is transparent."""
        rgba = np.array(image.convert("RGBA")).astype(np.int16)
        rgba[..., 3] = np.where(rgba[..., 3] < 128, 0, 255)
        if image.mode in ("L", "LA"):
            colours, indices = GREYS, np.round(rgba[..., 0] / 255 * (TRANSPARENT - 1))
        else:
            rgb = image.convert("RGB")
            colours = self._choose(rgb)
            indices = np.asarray(rgb.quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG))
        indices = np.where(rgba[..., 3] == 0, TRANSPARENT, indices).astype(np.uint8)
        if colours is self._colours:
            moved = np.abs(rgba - self._pixels).max(axis=2) > STILL
            indices = np.where(moved, indices, self._indices)
            rgba = np.where(moved[..., None], rgba, self._pixels)
        self._colours, self._pixels, self._indices = colours, rgba, indices
        frame = Image.fromarray(indices, "P")
        frame.putpalette(colours.getpalette())
        if (indices == TRANSPARENT).any():
            frame.info["transparency"] = TRANSPARENT
        return frame

    def _choose(self, image: Image.Image) -> Image.Image:
        """A picture with the colours for this one."""
        scale = min(1, SIDE / max(image.size))
        small = image.resize([max(1, round(scale * side)) for side in image.size], Image.Resampling.NEAREST)
        own = _with_colours(small.quantize(TRANSPARENT, Image.Quantize.FASTOCTREE).getpalette())
        if self._colours is not None and _error(small, self._colours) <= WORSE * _error(small, own) + 1:
            return self._colours
        return own


def _error(image: Image.Image, colours: Image.Image) -> float:
    mapped = image.quantize(palette=colours, dither=Image.Dither.NONE).convert("RGB")
    return float(np.square(np.asarray(image, np.float32) - np.asarray(mapped, np.float32)).mean())
