"""The parser that comes with the package."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from transformers import SegformerForSemanticSegmentation
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "hf_faceenh" / "weights" / "parser"
LABELS = ["background", "skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "mouth", "u_lip", "l_lip", "hair"]

# Middles of the regions on the astronaut's photograph, (x, y) in px, marked by hand.
MIDDLES = {
    "nose": (224, 117),
    "l_eye": (246.5, 103.5),
    "r_eye": (202.5, 101),
    "l_brow": (249.5, 93),
    "r_brow": (202, 91),
    "mouth": (223, 146),
    "u_lip": (223, 141.5),
    "l_lip": (223, 151.5),
}
# The FFHQ layout of five points (eyes, nose tip, mouth corners), in crop sides, and these points on the photograph.
TEMPLATE = np.float64([[192.98, 239.95], [318.90, 240.19], [256.63, 314.02], [201.26, 371.41], [313.09, 371.15]]) / 512
LANDMARKS = np.float64([[203, 101], [246, 103.5], [223.5, 126], [204, 141], [243.5, 141.5]])
TOLERANCE = 6  # px of the 256 px crop, in which the face's width is about 150


@pytest.fixture(scope="module")
def parser():
    return SegformerForSemanticSegmentation.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def to_crop(parser):
    matrix, _ = cv2.estimateAffinePartial2D(LANDMARKS, TEMPLATE * parser.config.sample_size, method=cv2.LMEDS)
    return matrix


@pytest.fixture(scope="module")
def regions(parser, to_crop):
    size = parser.config.sample_size
    photograph = cv2.imread(str(ROOT / "examples" / "astronaut.png"))[..., ::-1]
    crop = cv2.warpAffine(photograph, to_crop, (size, size), flags=cv2.INTER_CUBIC)
    normalised = (crop / 255 - IMAGENET_DEFAULT_MEAN) / IMAGENET_DEFAULT_STD
    with torch.no_grad():
        logits = parser(torch.from_numpy(normalised).permute(2, 0, 1)[None].float()).logits
    return F.interpolate(logits, size=(size, size), mode="bilinear")[0].argmax(0)


def test_is_small_and_stored_in_half_precision(parser):
    assert sum(parameter.numel() for parameter in parser.parameters()) <= 1_000_000
    with safe_open(FOLDER / "model.safetensors", "pt") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} <= {"F16", "I64"}  # noqa: SIM118
    assert parser.dtype == torch.float32


def test_speaks_celebamask_hq(parser):
    assert [parser.config.id2label[i] for i in range(len(LABELS))] == LABELS
    assert parser.config.label2id == {name: i for i, name in enumerate(LABELS)}
    assert parser.config.sample_size == 256


@pytest.mark.parametrize("name", MIDDLES)
def test_finds_the_parts_of_the_astronauts_face(name, parser, to_crop, regions):
    rows, columns = (regions == parser.config.label2id[name]).nonzero().float().unbind(1)
    middle = to_crop @ [*MIDDLES[name], 1]
    assert len(rows) > 30
    assert abs(columns.mean() - middle[0]) < TOLERANCE
    assert abs(rows.mean() - middle[1]) < TOLERANCE


def test_skin_is_skin_and_hair_is_hair_and_the_rest_is_background(parser, to_crop, regions):
    def region_at(x, y):
        column, row = to_crop @ [x, y, 1]
        return parser.config.id2label[int(regions[round(row), round(column)])]

    cheeks_chin_and_forehead = [(200, 122), (250, 124), (224, 165), (224, 87)]
    assert [region_at(*point) for point in cheeks_chin_and_forehead] == ["skin"] * 4
    hair = [(178, 75), (224, 55), (268, 85)]
    assert [region_at(*point) for point in hair] == ["hair"] * 3
    collar_and_wall = [(195, 185), (160, 135)]
    assert [region_at(*point) for point in collar_and_wall] == ["background"] * 2
