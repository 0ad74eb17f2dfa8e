"""Contact sheets: pictures side by side, each column under its heading."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HEADER = 20  # px for the heading


def contact_sheet(columns: Iterable[tuple[str, Sequence[np.ndarray]]]) -> np.ndarray:
    """
    Args:
        columns: heading and pictures, `[H, W, 3]` uint8, of each; as many pictures of the same heights in all.

    Returns:
        `[HEADER + all H, all W, 3]` uint8.
    """
    return np.concatenate([_column(heading, pictures) for heading, pictures in columns], axis=1)


def _column(heading: str, pictures: Sequence[np.ndarray]) -> np.ndarray:
    header = Image.new("RGB", (pictures[0].shape[1], HEADER), "white")
    ImageDraw.Draw(header).text((2, 2), heading, "black", ImageFont.load_default(14))
    return np.concatenate([np.asarray(header), *pictures])
