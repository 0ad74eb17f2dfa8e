"""Where the detector looks at large pictures, and that it finds every face of them once."""

import math
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

import hf_faceenh
from hf_faceenh.models import FaceDetections, FaceDetector
from hf_faceenh.models.looking import LARGER, OVERLAP, SEEN, STEP, TILE, closer_looks, spans, united

ROOT = Path(__file__).parents[2]
SMALLEST = 32 / 1.5  # px of the box of a face whose crop has 32 px


@pytest.fixture(scope="module")
def detector():
    return FaceDetector.from_pretrained(Path(hf_faceenh.__file__).parent / "weights/detector")


@pytest.fixture(scope="module")
def heads():
    """Square crops of people, about 1.7 times as high as the face, which is in the middle."""
    crops = {
        "examples/astronaut.png": (125, 20, 325, 220),
        "space/examples/small_portrait.jpg": (35, 13, 131, 109),
        "space/examples/old_print.jpg": (94, 21, 222, 149),
        "space/examples/three_prints.jpg": (46, 34, 246, 234),
    }
    return [Image.open(ROOT / path).convert("RGB").crop(corners) for path, corners in crops.items()]


def to_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def look_at(detector, image):
    return detector.detect(image, smallest=SMALLEST)


def faces_of(*boxes, score=0.8):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return FaceDetections(boxes, torch.zeros(len(boxes), 5, 2), torch.full((len(boxes),), score))


def box(x, y, side):
    return [x, y, x + side, y + side]


def sheet(heads, width, height, places, side):
    """The heads, `side` px each, in turn, with their centres at `places`, on grey."""
    canvas = Image.new("RGB", (width, height), "grey")
    for index, (x, y) in enumerate(places):
        head = heads[index % len(heads)].resize((side, side), Image.Resampling.LANCZOS)
        canvas.paste(head, (round(x - side / 2), round(y - side / 2)))
    return to_tensor(canvas)


def each_once(faces, places, within):
    """Whether there is one face at each place, and no other."""
    if len(faces) != len(places):
        return False
    distances = torch.cdist(faces.centres, torch.tensor(places, dtype=torch.float32))
    return bool(distances.amin(dim=0).max() < within and distances.amin(dim=1).max() < within)


@pytest.mark.parametrize("sides", [(1000, 1280), (960, 640), (200, 300), (1400, 900)])
def test_a_picture_that_is_seen_nearly_as_it_is_needs_no_closer_look(sides):
    assert closer_looks(*sides, scale=min(1, 1280 / max(sides)), smallest=SMALLEST) == []


def test_only_as_close_as_the_smallest_face_needs():
    def finest(smallest):
        return max((tiling.scale for tiling in closer_looks(3000, 4000, 0.32, smallest)), default=None)

    assert finest(0) == finest(SMALLEST) == pytest.approx(1)  # never more than the picture has
    assert finest(2 * SEEN) == pytest.approx(0.5)
    assert finest(4 * SEEN) is finest(math.inf) is None


@pytest.mark.parametrize("height, width", [(3000, 4000), (700, 8400), (9000, 11000), (1250, 1600)])
def test_scales_rise_in_small_steps_and_time_in_proportion_to_pixels(height, width):
    scale = 1280 / max(height, width)
    tilings = closer_looks(height, width, scale, SMALLEST)
    scales = [scale, *(tiling.scale for tiling in tilings)]
    assert all(1 < after / before <= STEP + 1e-9 for before, after in pairwise(scales))
    tiles = [(tiling.scale, *tile) for tiling in tilings for tile in tiling.tiles]
    seen = sum(at**2 * (row.end - row.start) * (column.end - column.start) for at, row, column in tiles)
    assert height * width < seen < 2 * height * width
    for before, tiling in zip(scales[:-1], tilings, strict=True):
        assert tiling.largest * before >= SEEN  # what is too small in one look is not too large for the next


def test_every_face_is_whole_in_a_tile_that_takes_it():
    dice = random.Random(1)
    for _ in range(200):
        length, scale, step = dice.randint(300, 12000), dice.uniform(0.1, 1), dice.uniform(1, STEP)
        largest = LARGER * SEEN * step / scale
        tiles = spans(length, TILE / scale, OVERLAP * largest)
        assert tiles[0].start == 0 and tiles[-1].end == length
        assert all(tile.end - tile.start <= TILE / scale + 2 for tile in tiles)
        for middle in (dice.uniform(0, length) for _ in range(20)):
            begin, end = max(0, middle - largest / 2), min(length, middle + largest / 2)
            taking = [tile for tile in tiles if tile.first <= middle <= tile.last]
            assert taking and all(tile.start <= begin and end <= tile.end for tile in taking)


def test_a_face_stays_as_the_first_look_that_saw_it_large_enough():
    whole = faces_of(box(100, 100, 200), box(500, 100, 60), score=0.6)  # at scale 0.3: 60 px and 18 px
    closer = faces_of(box(104, 98, 204), box(502, 101, 64), box(800, 100, 40), score=0.9)
    faces = united([whole, closer], [0.3, 1.0], threshold=0.3)
    assert faces.scores.tolist() == pytest.approx([0.9, 0.9, 0.6])
    assert sorted(faces.boxes[:, 0].tolist()) == [100, 502, 800]


def test_a_small_face_that_only_the_first_look_saw_stays():
    faces = united([faces_of(box(500, 100, 60)), faces_of()], [0.3, 1.0], threshold=0.3)
    assert faces.boxes.tolist() == [[500, 100, 560, 160]]


def test_every_face_of_a_very_wide_picture_is_found_once(detector, heads):
    places = [(90 + 135 * index, 75) for index in range(40)]
    picture = sheet(heads, 5430, 150, places, side=100)
    assert len(detector.detect(picture)) < 4  # at 1280 px they vanish
    assert each_once(look_at(detector, picture), places, within=8)


def test_faces_on_the_borders_of_tiles_are_found_once(detector, heads):
    (tiling,) = closer_looks(450, 3000, 1280 / 3000, SMALLEST)
    columns = sorted({column for _, column in tiling.tiles}, key=lambda column: column.start)
    assert len(columns) > 3
    places = [(column.start, 75) for column in columns[1:]]
    places += [((column.first + before.last) / 2, 225) for before, column in pairwise(columns)]
    places += [(column.end, 375) for column in columns[:-1]]
    assert each_once(look_at(detector, sheet(heads, 3000, 450, places, side=100)), places, within=8)


def test_large_faces_are_found_as_in_one_look(detector, heads):
    picture = sheet(heads, 1900, 500, [(250, 250), (800, 250), (1300, 250), (1700, 250)], side=340)
    one, several = detector.detect(picture), look_at(detector, picture)
    assert len(one) == 4
    for name in ("boxes", "landmarks", "scores"):
        assert torch.equal(getattr(one, name), getattr(several, name)), name


def test_landmarks_are_as_good_as_of_the_face_alone(detector, heads):
    places = [(120 + 200 * index, 100) for index in range(12)]
    picture = sheet(heads, 2500, 200, places, side=100)
    faces = look_at(detector, picture)
    assert each_once(faces, places, within=8)
    nearest = torch.cdist(torch.tensor(places).float(), faces.centres).argmin(dim=1)
    for (x, _), landmarks in zip(places, faces.landmarks[nearest], strict=True):
        alone = detector.detect(picture[:, :, x - 100 : x + 100])
        points = alone.landmarks[0] + torch.tensor([x - 100, 0])
        eyes = (points[0] - points[1]).norm()
        assert (points - landmarks).norm(dim=1).mean() < 0.05 * eyes


@pytest.mark.parametrize("name", ["brick", "grass", "gravel", "chelsea", "coffee", "rocket"])
def test_no_face_in_textures_animals_and_things(detector, name):
    picture = to_tensor(Image.fromarray(getattr(data, name)()).convert("RGB"))
    tiled = picture.tile(1, 2, 1 + 1700 // picture.shape[2])[:, :640, :1700]  # large enough for tiles
    assert not len(look_at(detector, tiled))


def test_a_look_can_be_cancelled(detector):
    class Stopped(Exception):
        pass

    def stop():
        raise Stopped

    with pytest.raises(Stopped):
        detector.detect(torch.zeros(3, 100, 4000), smallest=20, on_look=stop)
