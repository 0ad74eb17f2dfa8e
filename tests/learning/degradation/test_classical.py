"""Blur, noise, fewer pixels, and all of it twice."""

import cv2
import numpy as np
import pytest

from hf_faceenh.learning.degradation import SMALLEST_SIDE, TYPES, WORST_NOISE


def test_a_large_kernels_rounding_leaves_nothing_below_0():
    """At 256 px an anisotropic kernel has more than 11 × 11 places: OpenCV takes a Fourier transform, which leaves
    about -1e-8 on black, and Poisson-like noise takes the root of it."""
    image = np.zeros((256, 256, 3), np.float32)
    image[64:128, 64:192] = 1
    for seed in range(12):
        blurred = TYPES["blur"](image, 1.0, np.random.default_rng(seed))
        assert blurred.min() >= 0 and blurred.max() <= 1
        assert not np.isnan(TYPES["noise"](blurred, 1.0, np.random.default_rng(seed))).any()


@pytest.mark.parametrize("side", [96, 512])
def test_an_even_blurs_deviation_is_its_strengths_64th_of_the_side(side):
    """Also where it is computed on a smaller picture: the variance of a blurred point."""
    image = np.zeros((side, side, 3), np.float32)
    image[side // 2, side // 2] = 1
    place = np.arange(side) - side // 2
    found = []
    for seed in range(20):
        spread = TYPES["blur"](image, 0.7, np.random.default_rng(seed))[..., 0]
        variances = [float((spread.sum(axis) * place**2).sum() / spread.sum()) for axis in (0, 1)]
        if abs(variances[0] - variances[1]) < 0.02 * variances[0]:
            found.append(np.sqrt(variances[0]))
    assert len(found) > 5
    np.testing.assert_allclose(found, 0.7 * side / 64, rtol=0.07)


def test_noise_has_the_deviation_that_it_should_have():
    grey = np.full((128, 128, 3), 0.5, np.float32)
    for strength in (0.3, 1.0):
        noisy = TYPES["noise"](grey, strength, np.random.default_rng(0))
        assert noisy.std() == pytest.approx(WORST_NOISE * strength, rel=0.05)
        assert noisy.mean() == pytest.approx(0.5, abs=0.01)


def test_a_second_time_the_picture_shrinks_to_a_half_at_most_and_never_below_the_least():
    image = np.random.default_rng(0).random((96, 96, 3), np.float32)
    sides = [len(TYPES["second"](image, 1.0, np.random.default_rng(seed))) for seed in range(40)]
    assert min(sides) >= 48 and min(sides) < 60 and 96 < max(sides) < 110
    small = cv2.resize(image, (SMALLEST_SIDE, SMALLEST_SIDE))
    assert all(len(TYPES["second"](small, 1.0, np.random.default_rng(seed))) >= 32 for seed in range(40))
