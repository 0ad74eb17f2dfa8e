import pytest

from hf_faceenh.learning.rates import cosine, warm_up, warm_up_then_cosine


def test_cosine_falls_from_1_to_0():
    assert [cosine(done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


def test_warm_up_rises_to_1_and_stays_there():
    assert [warm_up(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert warm_up(0, 0) == 1


@pytest.mark.parametrize("steps", [1, 2, 40, 1000])
def test_a_rate_that_rises_and_falls_is_in_range_and_once_at_its_highest(steps):
    rates = [warm_up_then_cosine(step, steps) for step in range(steps)]
    highest = rates.index(max(rates))
    assert max(rates) == 1 and min(rates) > 0
    assert rates[: highest + 1] == sorted(rates[: highest + 1])
    assert rates[highest:] == sorted(rates[highest:], reverse=True)
