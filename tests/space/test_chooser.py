"""Where the frames, labels and thumbnails of the Space's chooser lie."""

import re
import sys
from pathlib import Path

import pytest
from PIL import Image

SPACE = Path(__file__).parents[2] / "space"


@pytest.fixture(scope="module")
def chooser():
    sys.path.insert(0, str(SPACE))
    try:
        import chooser

        yield chooser
    finally:
        sys.path.remove(str(SPACE))


def boxes(rows, columns, pitch, side):
    return [
        (x * pitch, y * pitch + 7 * (x % 2), x * pitch + side, y * pitch + 7 * (x % 2) + side)
        for y in range(rows)
        for x in range(columns)
    ]


def test_faces_are_numbered_row_by_row(chooser):
    found = boxes(2, 3, 100, 60)
    shuffled = [found[index] for index in (4, 0, 5, 2, 1, 3)]
    assert [shuffled[index] for index in chooser.numbered(shuffled)] == found


def lengths(css):
    left, top, width, height = (float(value) for value in re.findall(r":([\d.]+)%", css))
    return left, top, left + width, top + height


def test_a_label_covers_no_face(chooser):
    image = Image.new("RGB", (680, 500))
    found = [(50, 60, 200, 260), (210, 40, 330, 200), (340, 300, 480, 480)]
    made = chooser.chooser(image, found)
    frames = [lengths(face["frame"]) for face in made.faces]
    labels = [lengths(face["label"]) for face in made.faces]
    assert made.picture.startswith("data:image/jpeg") and len(frames) == 3
    for x1, y1, x2, y2 in labels:
        assert x1 >= 0 and y1 >= 0 and x2 <= 100.01 and y2 <= 100.01
        assert not any(x1 < right and x2 > left and y1 < low and y2 > high for left, high, right, low in frames)


@pytest.mark.parametrize(
    "found", [boxes(3, 3, 100, 60), [(0, 0, 20, 20)], boxes(1, 1, 680, 680)], ids=["many", "small", "no room"]
)
def test_otherwise_they_are_thumbnails(chooser, found):
    made = chooser.chooser(Image.new("RGB", (680, 680)), found)
    assert made.picture == "" and len(made.faces) == len(found)
    assert all(face["thumbnail"].startswith("data:image/jpeg") for face in made.faces)
    assert [face["number"] for face in made.faces] == list(range(1, len(found) + 1))
