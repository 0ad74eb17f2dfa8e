"""Grain and fading."""

import numpy as np
import pytest

from hf_faceenh.learning.degradation.film import WORST_GRAIN, fading, grain


def test_grain_is_correlated_and_strongest_in_middle_tones():
    deviations = {}
    for level in (0.05, 0.5, 0.95):
        picture = np.full((256, 256, 3), level, np.float32)
        grains = grain(picture, 0.5, np.random.default_rng(0)) - picture
        deviations[level] = grains.std()
    assert deviations[0.5] == pytest.approx(0.5 * WORST_GRAIN, rel=0.1)
    assert deviations[0.05] < 0.6 * deviations[0.5] > deviations[0.95]
    picture = np.full((512, 512, 3), 0.5, np.float32)
    grains = grain(picture, 0.5, np.random.default_rng(0))[..., 0] - 0.5
    assert (grains[:, 1:] * grains[:, :-1]).mean() > 0.2 * grains.var()


def test_fading_lifts_blacks_and_dulls_whites():
    picture = np.zeros((64, 64, 3), np.float32)
    picture[32:] = 1
    for seed in range(20):
        faded = fading(picture, 1.0, np.random.default_rng(seed))
        blacks, whites = faded[:32].mean((0, 1)), faded[32:].mean((0, 1))
        assert blacks.max() > 0.04 and whites.min() < 0.99 and (whites > blacks + 0.2).all()
    half = fading(picture, 0.5, np.random.default_rng(3))
    assert half[:32].mean() == pytest.approx(fading(picture, 1.0, np.random.default_rng(3))[:32].mean() / 2, rel=0.1)


def test_some_prints_yellow():
    white = np.ones((32, 32, 3), np.float32)
    faded = [fading(white, 1.0, np.random.default_rng(seed)).mean((0, 1)) for seed in range(40)]
    assert sum(red > green > blue + 0.05 for red, green, blue in faded) > 8
