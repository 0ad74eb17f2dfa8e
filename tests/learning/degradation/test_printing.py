"""Screened dots, and the patterns of scanners."""

import cv2
import numpy as np
import pytest

from hf_faceenh.learning.degradation.printing import halftone, scanner


def test_dots_are_as_dark_as_the_picture_on_average_and_lie_on_a_grid():
    for level in (0.3, 0.5, 0.7):
        grey = np.full((256, 256, 3), level, np.float32)
        dots = halftone(grey, 1.0, np.random.default_rng(2))
        assert dots.mean() == pytest.approx(level, abs=0.08)
        spectrum = np.abs(np.fft.rfft2(dots[..., 0] - dots[..., 0].mean())) ** 2
        # Most of the pattern is in a few waves: noise of this size would need thousands.
        assert np.sort(spectrum.ravel())[-40:].sum() > 0.6 * spectrum.sum()


def test_some_are_grey_and_some_have_a_screen_for_each_ink():
    grey = np.full((128, 128, 3), 0.5, np.float32)
    coloured = [np.ptp(halftone(grey, 1.0, np.random.default_rng(seed)), axis=2).max() > 0.1 for seed in range(20)]
    assert 4 < sum(coloured) < 16


def test_patterns_leave_the_picture_where_it_was():
    """However strong, they are finer than a face's features."""
    y, x = np.mgrid[:256, :256].astype(np.float32) / 256
    picture = np.stack([x, y, 1 - x], axis=2) * 0.6 + 0.2
    for seed in range(20):
        scanned = scanner(picture, 1.0, np.random.default_rng(seed))
        assert 0.01 < np.abs(scanned - picture).mean() < 0.12
        assert np.abs(cv2.GaussianBlur(scanned - picture, (0, 0), 24)).mean() < 0.04
