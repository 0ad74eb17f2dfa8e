"""JPEG and WebP."""

import numpy as np
import pytest

from hf_faceenh.learning.degradation import TYPES, noisy_and_compressed


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_a_file_costs_detail_not_colour(face, kind):
    image = face.astype(np.float32) / 255
    saved = TYPES[kind](image, 0.6, np.random.default_rng(0))
    assert 0.003 < np.abs(saved - image).mean() < 0.05
    np.testing.assert_allclose(saved.mean((0, 1)), image.mean((0, 1)), atol=0.01)  # and channels keep their places


def test_fixed_damage_has_the_noise_that_it_says():
    grey = np.full((128, 128, 3), 128, np.uint8)
    noisy = noisy_and_compressed(grey, 6, 100, np.random.default_rng(0))
    assert noisy.dtype == np.uint8 and noisy.mean() == pytest.approx(128, abs=0.5)
    assert 3 < noisy.std() < 7
