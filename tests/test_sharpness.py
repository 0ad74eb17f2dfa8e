"""Photographs whose faces are sharp stay as they are; those whose faces only look large are enhanced."""

import cv2
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def photo(astronaut):
    return Image.open(astronaut).convert("RGB")


def psnr(one, other, box):
    x1, y1, x2, y2 = (int(max(0, edge)) for edge in box)
    difference = one[y1:y2, x1:x2].astype(float) - other[y1:y2, x1:x2]
    return 10 * np.log10(255**2 / np.square(difference).mean())


@pytest.mark.parametrize(("size", "upscale"), [(224, 1), (224, 2), (512, 1), (512, 2)])
def test_a_sharp_face_is_never_worse(bundled, photo, size, upscale):
    picture = np.asarray(photo.resize((size, size), Image.Resampling.BOX))
    output = bundled(picture, upscale=upscale)
    back = np.asarray(output.images[0].resize((size, size), Image.Resampling.BOX))
    assert psnr(back, picture, output.faces[0][0].box) > 40


def test_a_small_print_scanned_large_comes_nearer_to_the_truth(bundled, photo):
    truth = cv2.resize(np.asarray(photo)[:320, 60:380], (960, 960), interpolation=cv2.INTER_CUBIC)
    scan = cv2.resize(truth, (120, 120), interpolation=cv2.INTER_AREA)
    scan = cv2.resize(scan, (960, 960), interpolation=cv2.INTER_CUBIC)
    grain = cv2.GaussianBlur(np.random.RandomState(1).randn(960, 960, 1), (0, 0), 1.2)[..., None]
    scan = np.clip(scan + 9 * grain, 0, 255).astype(np.uint8)
    output = bundled(scan, upscale=1)
    (face,) = output.faces[0]
    assert face.left_alone is None and face.size > 400 and face.detail < 120
    assert psnr(np.asarray(output.images[0]), truth, face.box) > psnr(scan, truth, face.box) + 0.5
