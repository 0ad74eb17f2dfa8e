"""Scratches, hairs, dust, cracks and tears."""

import numpy as np

from hf_faceenh.learning.degradation.wear import DEEPEST_TEAR, _tear, scratches


def marked(strength, seed, level=0.5):
    picture = np.full((256, 256, 3), level, np.float32)
    return np.abs(scratches(picture, strength, np.random.default_rng(seed)) - picture).max(axis=2) > 0.02


def test_marks_are_few_and_thin_and_leave_the_rest_untouched():
    shares = [marked(1.0, seed)[64:192, 64:192].mean() for seed in range(30)]
    assert 0.005 < np.mean(shares) < 0.08 and max(shares) < 0.2


def test_there_are_light_and_dark_ones():
    picture = np.full((256, 256, 3), 0.5, np.float32)
    damaged = [scratches(picture, 0.7, np.random.default_rng(seed)) for seed in range(10)]
    assert sum((one > 0.6).any() and (one < 0.4).any() for one in damaged) > 6


def test_a_tear_stays_at_the_rim():
    image, deepest = np.zeros((256, 256, 3), np.float32), 256 * (DEEPEST_TEAR + 10 / 512) + 1
    for seed in range(30):
        y, x = _tear(image, 1.0, np.random.default_rng(seed)).nonzero()
        to_rim = np.minimum(np.minimum(x, 255 - x), np.minimum(y, 255 - y))
        assert len(x) and to_rim.max() <= deepest


def test_strength_0_leaves_every_pixel():
    assert not any(marked(0.0, seed).any() for seed in range(5))
