"""Enhanced faces that keep what their inputs show."""

import torch

from hf_faceenh.binding import bind, worth

torch.manual_seed(0)
CROP = torch.rand(1, 3, 64, 64) / 2 + 0.25
MASK = torch.ones(1, 1, 64, 64)
SHARP, BLURRED = [(64.0, 45.0)], [(640.0, 45.0)]  # side and detail


def changed(levels):
    return CROP + levels / 255 * torch.randn(CROP.shape).sign()


def rest(enhanced, sizes):
    return float((bind(enhanced, CROP, MASK, sizes) - CROP).square().mean().sqrt() * 255)


def test_a_small_change_of_a_sharp_face_is_mostly_taken_back_and_a_repair_stays():
    assert rest(changed(2), SHARP) < 0.6
    assert 8.9 < rest(changed(9), SHARP) < 9.1


def test_what_a_blurred_face_does_not_resolve_is_not_bound():
    assert rest(changed(2), BLURRED) > 1.5


def test_a_face_that_hardly_changes_is_not_worth_the_loss_in_its_crop():
    assert worth(changed(0.3), CROP, MASK, SHARP).max() == 0
    assert worth(changed(3), CROP, MASK, SHARP).min() == 1
    assert worth(changed(0.3), CROP, MASK, [(40.0, 26.0)]).min() == 1  # a small face loses nothing
    assert worth(CROP, CROP, 0 * MASK, SHARP).max() == 0
