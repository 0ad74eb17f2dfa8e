"""The detail that a face has, whatever its pixels."""

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut

from hf_faceenh.detail import measure

SHARP = astronaut()[34:194, 146:306]  # 160 px around the face, sharp as far as its pixels go
WHOLE = np.eye(2, 3)  # of a picture that is an aligned crop
RNG = np.random.RandomState(3)


def resized(picture, size):
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if size < len(picture) else cv2.INTER_CUBIC)


def with_grain(picture, strength, spread=1.2):
    grain = cv2.GaussianBlur(RNG.randn(*picture.shape[:2]), (0, 0), spread)[..., None]
    return np.clip(picture + grain * strength / grain.std(), 0, 255).round().astype(np.uint8)


def as_jpeg(picture, quality):
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def detail_of(picture):
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1) / 255
    return measure(pixels, WHOLE, float(len(picture)))


SIDE = detail_of(SHARP)


def test_a_sharp_face_has_detail_for_most_of_its_pixels():
    assert 100 < SIDE <= 160
    half = detail_of(resized(SHARP, 80))
    assert 50 < half <= 80


@pytest.mark.parametrize("size", [320, 640, 1280])
def test_pixels_that_show_nothing_new_do_not_count(size):
    """A small print scanned large, with the grain of the paper, as it is and as JPEG."""
    large = resized(SHARP, size)
    scan = with_grain(large, 9)
    for picture in (large, scan, as_jpeg(scan, 92), as_jpeg(large, 40), np.repeat(large[:, :, :1], 3, axis=2)):
        assert 100 < detail_of(picture) < 176


def defocused(picture, radius):
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.float32)
    return cv2.filter2D(picture, -1, disc / disc.sum())


DAMAGES = {
    "grain": lambda picture, amount: with_grain(picture, 8 * amount),
    "gaussian": lambda picture, amount: cv2.GaussianBlur(picture, (0, 0), amount),
    "defocus": defocused,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_more_damage_the_less_detail(damage):
    sides = [SIDE] + [detail_of(damage(SHARP, amount)) for amount in (1, 2, 4)]
    assert all(later < 1.02 * earlier for earlier, later in zip(sides, sides[1:], strict=False)), sides
    assert damage is DAMAGES["grain"] or sides[-1] < 0.5 * SIDE


def test_a_dark_face_is_measured_by_its_own_contrast():
    dark = (SHARP * 0.3).astype(np.uint8)
    assert detail_of(dark) > 0.7 * SIDE
    assert detail_of(resized(dark, 640)) < 176


def test_a_face_is_measured_where_the_transform_says():
    """Turned, shifted, upscaled to the crop, and beyond the border."""
    pixels = torch.from_numpy(np.pad(SHARP, ((40, 0), (90, 30), (0, 0)))).permute(2, 0, 1) / 255
    moved = np.array([[2.0, 0, -180], [0, 2.0, -80]])
    assert measure(pixels, moved, 160.0) == pytest.approx(SIDE, rel=1e-3)
    assert 0 < measure(pixels, np.array([[2.0, 0, 200], [0, 2.0, 0]]), 160.0) <= 160
    assert measure(pixels[:, :3, :3], WHOLE, 3.0) == 3


def test_flat_and_tiny_faces_have_a_detail_too():
    assert 0 < detail_of(np.full((300, 300, 3), 90, np.uint8)) < 100
    assert detail_of(SHARP[:12, :12]) <= 12
