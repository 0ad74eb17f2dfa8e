import math

import numpy as np
import pytest

from hf_faceenh.learning.intervals import bootstrap_interval, mean_with_interval


def test_bootstrap_interval_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_more_pictures_of_the_same_faces_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(5, 2, 50)
    faces = [f"{index}.png" for index in range(50)]
    assert bootstrap_interval(np.tile(values, 4), faces * 4) == pytest.approx(
        bootstrap_interval(values, faces), abs=0.1
    )
    low, high = bootstrap_interval(values, faces)
    without = bootstrap_interval(np.tile(values, 4))
    assert without[1] - without[0] < 0.6 * (high - low)


def test_missing_values_are_left_out_and_counted():
    figures = mean_with_interval([1.0, math.nan, 3.0, math.nan], ["a", "b", "c", "b"])
    assert figures["mean"] == 2 and figures["missing"] == 2 and 1 <= figures["interval"][0] <= 2
    assert mean_with_interval([math.nan]) == {"mean": None, "interval": None, "missing": 1}
