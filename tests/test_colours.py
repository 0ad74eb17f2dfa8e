"""Colours of an enhanced face come from its crop, those of the irises most of all."""

import pytest
import torch

from hf_faceenh.colours import bind_colours
from hf_faceenh.tones import luminance

WORDS = {0: "background", 1: "skin", 4: "l_eye", 5: "r_eye"}
CENTRES = ((96, 120), (160, 120))
SKIN, BROWN, TEAL = (torch.tensor(colour) for colour in ((0.8, 0.6, 0.5), (0.36, 0.24, 0.16), (0.15, 0.28, 0.3)))


def face(*irises, skin=SKIN):
    """A face [1, 3, 256, 256] with two eyes of these colours on white, and its labels [1, 256, 256]."""
    pixels, labels = skin[:, None, None].repeat(1, 256, 256), torch.ones(256, 256, dtype=torch.uint8)
    y, x = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    for (left, top), iris, label in zip(CENTRES, irises, (5, 4), strict=True):
        eye = ((x - left) / 16) ** 2 + ((y - top) / 7) ** 2 < 1
        pixels[:, eye], labels[eye] = 0.85, label
        pixels[:, ((x - left) ** 2 + (y - top) ** 2 < 36) & eye] = iris[:, None]
    return pixels[None], labels[None]


def iris(pixels, place=0):
    left, top = CENTRES[place]
    return pixels[0, :, top - 2 : top + 3, left - 2 : left + 3].mean(dim=(1, 2))


def colour(rgb):
    return rgb - luminance(rgb[:, None, None])[:, 0, 0]


def test_what_agrees_with_the_photograph_stays():
    crops, labels = face(BROWN, BROWN)
    torch.testing.assert_close(bind_colours(crops, crops, labels, WORDS), crops, atol=1e-5, rtol=0)


def test_a_cast_of_the_whole_face_goes_and_its_light_stays():
    crops, labels = face(BROWN, BROWN)
    cast = crops + 0.06 * torch.tensor([-1.0, 0.3, 0.9])[:, None, None]
    bound = bind_colours(cast, crops, labels, WORDS)
    torch.testing.assert_close(bound[..., 200, 128], crops[..., 200, 128] + luminance(cast[0] - crops[0])[:, 200, 128])
    torch.testing.assert_close(luminance(bound[0]), luminance(cast[0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("irises", [(TEAL, TEAL), (TEAL, BROWN)])
def test_brown_eyes_do_not_turn_teal(irises):
    crops, _ = face(BROWN, BROWN)
    faces, labels = face(*irises)
    bound = bind_colours(faces, crops, labels, WORDS)
    for place in (0, 1):
        red, _, blue = colour(iris(bound, place))
        assert red > 0.005 and blue < 0  # warm, as the photograph's
    if irises[0] is not irises[1]:
        assert (colour(iris(bound, 0)) - colour(iris(bound, 1))).norm() < 0.1 < (colour(TEAL) - colour(BROWN)).norm()
    torch.testing.assert_close(bound[..., 60:90, :], faces[..., 60:90, :], atol=0.01, rtol=0)


def test_a_crop_without_colours_takes_all_of_the_face_s():
    crops, _ = face(BROWN, BROWN)
    faces, labels = face(TEAL, BROWN)
    bound = bind_colours(faces, luminance(crops[0])[None].expand_as(crops), labels, WORDS)
    assert (bound.amax(dim=1) - bound.amin(dim=1)).max() < 1e-5


def test_without_eyes_there_is_no_iris():
    crops, labels = face(BROWN, BROWN)
    faces, _ = face(TEAL, TEAL)
    closed = bind_colours(faces, crops, torch.ones_like(labels), WORDS)
    torch.testing.assert_close(closed, bind_colours(faces, crops, labels, {1: "skin"}))
    assert colour(iris(closed))[0] < 0  # only coarse colours are bound
