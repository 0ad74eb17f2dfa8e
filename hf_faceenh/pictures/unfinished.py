"""A JPEG whose file ends too early, as after a broken download: good enough as long as little is missing."""

from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image

END = b"\xff\xd9"
SCAN = b"\xff\xda"
MOST = 1 / 8  # of the rows may be missing


def read_unfinished(file: BinaryIO) -> tuple[Image.Image, str] | None:
    """The picture, loaded, and a remark on what it lacks; `None` if that is too much.

    With an end after what is there, libjpeg decodes the file. Blocks that are missing come out in its middle grey.
    """
    file.seek(0)
    data = file.read()
    image = Image.open(BytesIO(data + END), formats=["JPEG"])
    image.load()
    missing = _missing_rows(image)
    if missing > MOST * image.height or (image.info.get("progressive") and not _all_scans_begin(data)):
        return None
    lacking = f"the lowest {missing} of its {image.height} rows are" if missing else "nothing visible is"
    return image, f"the file is cut off at its end: {lacking} missing"


def _missing_rows(image: Image.Image) -> int:
    edge = np.asarray(image.crop((image.width - 1, 0, image.width, image.height)))
    present = ~np.isin(edge.reshape(image.height, -1), (127, 128)).all(axis=1)
    return image.height - (int(present.nonzero()[0].max()) + 1 if present.any() else 0)


def _all_scans_begin(data: bytes) -> bool:
    """Whether of a progressive JPEG, which is sent in ever finer layers, even the last layer is there in part: of each
    component all 64 coefficients to the last bit (ITU-T T.81, annex G)."""
    exact: dict[int, set[int]] = {}
    at = data.find(SCAN)
    while 0 <= at < len(data) - 4:
        count = data[at + 4]
        header = data[at + 5 : at + 8 + 2 * count]
        if len(header) < 2 * count + 3:
            break
        first, last, bits = header[-3:]
        for component in header[: 2 * count : 2]:
            found = exact.setdefault(component, set())
            if bits & 15 == 0:  # to the last bit
                found.update(range(first, last + 1))
        at = data.find(SCAN, at + 2)
    return all(len(found) == 64 for found in exact.values())
