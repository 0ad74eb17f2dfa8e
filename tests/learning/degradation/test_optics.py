"""Uneven light, and pictures out of focus."""

import numpy as np
import pytest

from hf_faceenh.learning.degradation.optics import WORST_RADIUS, defocus, exposure


def test_light_differs_within_a_picture_and_smoothly():
    grey = np.full((96, 96, 3), 0.4, np.float32)
    for seed in range(12):
        lit = exposure(grey, 1.0, np.random.default_rng(seed))
        assert np.ptp(lit) > 0.03 and (lit[..., 0] == lit[..., 2]).all()
        assert max(np.abs(np.diff(lit, axis=axis)).max() for axis in (0, 1)) < 0.03


@pytest.mark.parametrize("strength", [0.1, 0.4, 1.0])
def test_a_point_out_of_focus_is_a_disc_of_its_radius(strength):
    image = np.zeros((512, 512, 3), np.float32)
    image[248:264, 248:264] = 1
    radius = WORST_RADIUS * strength
    spread = defocus(image, strength, np.random.default_rng(1))
    lit = np.nonzero(spread[256, :, 0] > 0.01)[0]
    assert np.ptp(lit) + 1 == pytest.approx(16 + 2 * radius, abs=3 + radius / 3)


def test_bright_spots_grow():
    """Half of a step's light is more than half of its number."""
    step = np.zeros((512, 512, 3), np.float32)
    step[:, 256:] = 1
    assert defocus(step, 0.5, np.random.default_rng(0))[256, 254:258].mean() > 0.6
