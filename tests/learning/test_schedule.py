import math
from pathlib import Path

import pytest

from hf_faceenh.learning import schedule
from hf_faceenh.learning.options import TrainingOptions
from hf_faceenh.learning.reduction import ReductionConfig
from hf_faceenh.learning.schedule import Progress


def options(**changes):
    settings = {"rounds": 10, "steps_per_round": 4, "first_reduction": 2, "tune_rounds": 3, "warmup_steps": 2}
    return TrainingOptions(dataset="faces", output_dir=Path("out"), **settings | changes)


@pytest.mark.parametrize(
    ("fall", "shares"),
    [("cosine", [1, 0.5, 0]), ("linear", [1, 0.5, 0]), ("constant", [1, 1, 1])],
)
def test_the_rate_rises_over_the_warm_up_and_falls_in_the_second_phase(fall, shares):
    run = options(schedule=fall)
    assert [schedule.rate_share(run, Progress(step=step)) for step in (0, 1, 2, 27)] == [0.5, 1, 1, 1]
    tuning = [Progress(step=step, phase="tune", tune_from=20) for step in (20, 26, 32)]
    assert [schedule.rate_share(run, progress) for progress in tuning] == pytest.approx(shares)


def test_a_run_that_is_all_tuning_begins_so():
    assert schedule.first_phase(options()) == "reduce"
    assert schedule.first_phase(options(rounds=3, reduction=ReductionConfig(target=1))) == "tune"
    assert schedule.tune_steps(options(rounds=2, reduction=ReductionConfig(target=1))) == 8


def test_reductions_are_due_after_the_first_rounds_and_then_every_kth():
    run = options(reduce_every=3)
    due = [round for round in range(8) if schedule.reduction_due(run, Progress(round=round))]
    assert due == [1, 4, 7]
    assert not schedule.reduction_due(run, Progress(round=1, phase="tune"))
    assert not schedule.reduction_due(options(reduction=ReductionConfig(target=1)), Progress(round=1))


def test_reductions_are_over_at_the_target_without_any_gain_or_when_rounds_are_short():
    run, early = options(), Progress(round=3)
    assert schedule.reductions_over(run, early, 1000, (500, 400)) is None
    assert schedule.reductions_over(run, early, 1000, None) is None
    assert "the target of 0.25 " in schedule.reductions_over(run, early, 1000, (400, 251))
    assert "no layer can be reduced" in schedule.reductions_over(run, early, 1000, (400, 400))
    assert schedule.reductions_over(run, Progress(round=5), 1000, (500, 400)) is None
    assert "10 rounds are used up" in schedule.reductions_over(run, Progress(round=6), 1000, (500, 400))
    assert schedule.reductions_over(run, Progress(round=6, phase="tune"), 1000, (400, 251)) is None


def test_the_second_phase_ends_when_its_steps_are_done():
    progress = Progress(step=20, round=5)
    progress.begin_tuning("the target is reached")
    assert progress.phase == "tune" and schedule.end(options(), progress) is None
    progress.step, progress.round = 31, 7
    assert schedule.end(options(), progress) is None
    progress.step, progress.round = 32, 8
    assert schedule.end(options(), progress) == "the target is reached"
    assert "10 rounds are used up" in schedule.end(options(), Progress(step=40, round=10, phase="tune", tune_from=36))
    assert schedule.end(options(rounds=5), Progress(step=24, round=6))  # resumed with fewer rounds than are done


def test_patience_ends_the_second_phase_and_begins_with_it():
    progress = Progress(step=20, round=5, stale=7)
    run = options(patience=2)
    assert schedule.end(run, progress) is None  # the first phase has no patience
    progress.begin_tuning("")
    assert schedule.end(run, progress) is None
    progress.stale = 2
    assert schedule.end(run, progress) == "no improvement in 2 evaluations"
    assert schedule.end(options(patience=0), progress) is None


def test_a_smaller_network_is_better_then_a_smaller_error_and_never_one_that_is_not_a_number():
    assert schedule.is_better((10, 0.5), None) and not schedule.is_better((10, math.nan), None)
    assert schedule.is_better((9, 0.5), (10, 0.1)) and not schedule.is_better((11, 0.1), (10, 0.5))
    assert schedule.is_better((10, 0.1), (10, 0.5)) and not schedule.is_better((10, 0.5), (10, 0.5))
    assert not schedule.is_better((10, math.nan), (10, 0.5))


def test_the_loader_starts_at_the_next_batch_or_where_the_rounds_end_looks_back_to():
    run = options(gradient_accumulation_steps=2)  # 8 batches a round
    assert schedule.first_batch(run, Progress(step=0), assessed=3) == 0
    assert schedule.first_batch(run, Progress(step=6, round=1), assessed=3) == 12
    assert schedule.first_batch(run, Progress(step=7, round=1), assessed=3) == 13
    assert schedule.first_batch(run, Progress(step=8, round=2), assessed=8) == 16


def test_losses_are_summed_and_begin_anew_with_a_round():
    progress = Progress()
    progress.add_losses({"pixel": 1.0})
    progress.add_losses({"pixel": 2.0, "r1": 5.0})
    assert progress.losses == {"pixel": [3.0, 2], "r1": [5.0, 1]}
    progress.begin_round()
    assert progress.round == 1 and progress.losses == {}
