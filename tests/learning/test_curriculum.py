import dataclasses
import math

import numpy as np
import pytest
import torch

from hf_faceenh.learning.curriculum import (
    Curriculum,
    CurriculumConfig,
    DiscriminatorMeans,
    TypeErrors,
    augmentation_factor,
)
from hf_faceenh.learning.degradation import TYPES

HALF = dict.fromkeys(TYPES, 0.5)
ERRORS = {"colour": 0.9, "blur": 0.3, "downsample": 0.7, "noise": 0.2, "jpeg": 0.5}


def means(factor):
    """Of a discriminator whose means give this factor."""
    return {"lq": -1.0, "hq": 1.0, "enhanced": 1 - 2 / factor}


def test_the_factor_is_the_gap_of_the_degraded_over_the_gap_of_the_enhanced():
    assert augmentation_factor(m_lq=-2, m_hq=2, m_enh=0) == 2
    assert augmentation_factor(m_lq=-2, m_hq=2, m_enh=-2) == 1  # no better than degraded
    assert augmentation_factor(m_lq=-2, m_hq=2, m_enh=-6) == 0.5  # worse
    assert augmentation_factor(m_lq=-2, m_hq=2, m_enh=1.9) == 10  # hardly told from sharp
    assert augmentation_factor(m_lq=-2, m_hq=2, m_enh=1.9, largest=50) == pytest.approx(40)


def test_the_factor_where_the_formula_is_undefined():
    assert augmentation_factor(m_lq=-2, m_hq=2, m_enh=2) == 10  # taken for sharp
    assert augmentation_factor(m_lq=-2, m_hq=2, m_enh=3) == 10
    assert augmentation_factor(m_lq=2, m_hq=2, m_enh=1) is None  # the discriminator is of no use
    assert augmentation_factor(m_lq=3, m_hq=2, m_enh=4) is None
    assert augmentation_factor(m_lq=-2, m_hq=2, m_enh=math.nan) is None
    assert augmentation_factor(m_lq=-math.inf, m_hq=2, m_enh=0) is None


def test_a_good_state_is_left_alone():
    for factor in (1.4, 1.5, 1.6):
        decision = Curriculum(CurriculumConfig()).decide(means(factor), ERRORS, HALF)
        assert decision.direction == 0 and decision.changed == () and decision.coefficients == HALF
        assert decision.factor == pytest.approx(factor) == decision.smoothed
        assert "between 1.35 and 1.65" in decision.reason


def test_a_large_factor_raises_that_of_which_least_is_left():
    decision = Curriculum(CurriculumConfig()).decide(means(4), ERRORS, HALF)
    assert decision.direction == 1 and decision.changed == ("noise", "blur")
    assert decision.coefficients == HALF | {"noise": 0.6, "blur": 0.6}
    assert "above 1.65" in decision.reason and "\n" not in decision.reason


def test_a_small_factor_lowers_that_of_which_most_is_left():
    decision = Curriculum(CurriculumConfig(types_per_round=1)).decide(means(1.1), ERRORS, HALF)
    assert decision.direction == -1 and decision.changed == ("colour",)
    assert decision.coefficients == HALF | {"colour": 0.4}
    light = HALF | {"colour": 0.2}  # of which a large share always remains: 0.9 of 0.2 is less than 0.7 of 0.5
    assert Curriculum(CurriculumConfig(types_per_round=1)).decide(means(1.1), ERRORS, light).changed == ("downsample",)


def test_coefficients_stay_within_their_bounds_and_the_next_types_take_their_turn():
    config = CurriculumConfig(step=0.3)
    high = HALF | {"noise": 1.0, "blur": 0.9}
    decision = Curriculum(config).decide(means(4), ERRORS, high)
    assert decision.changed == ("jpeg", "blur")
    assert decision.coefficients == high | {"blur": 1.0, "jpeg": 0.8}
    low = HALF | {"colour": 0.1, "downsample": 0.3}
    decision = Curriculum(config).decide(means(1), ERRORS, low)
    assert decision.changed == ("jpeg", "downsample")
    assert decision.coefficients == low | {"downsample": 0.1, "jpeg": 0.2}


def test_where_nothing_can_be_changed_nothing_is():
    decision = Curriculum(CurriculumConfig()).decide(means(4), ERRORS, dict.fromkeys(TYPES, 1.0))
    assert decision.direction == 0 and decision.changed == () and "at its bound" in decision.reason
    decision = Curriculum(CurriculumConfig()).decide(means(4), dict.fromkeys(TYPES), HALF)
    assert decision.direction == 0 and decision.coefficients == HALF


def test_types_without_samples_stay():
    decision = Curriculum(CurriculumConfig()).decide(means(4), {"jpeg": 0.5, "noise": None}, HALF)
    assert decision.changed == ("jpeg",)


def test_the_factor_is_smoothed_over_rounds_so_that_one_outlier_decides_nothing():
    curriculum = Curriculum(CurriculumConfig(smoothing=0.8))
    for _ in range(5):
        curriculum.decide(means(1.5), ERRORS, HALF)
    decision = curriculum.decide(means(2.25), ERRORS, HALF)
    assert decision.factor == pytest.approx(2.25) and decision.direction == 0
    assert decision.smoothed == pytest.approx(1.5 * 1.5**0.2)
    assert [curriculum.decide(means(2.25), ERRORS, HALF).direction for _ in range(2)] == [1, 1]


def test_an_undefined_factor_decides_nothing_and_is_not_remembered():
    curriculum = Curriculum(CurriculumConfig())
    useless = {"lq": 1.0, "hq": 0.0, "enhanced": 0.5}
    decision = curriculum.decide(useless, ERRORS, HALF)
    assert decision.factor is None and decision.smoothed is None and decision.direction == 0
    assert decision.coefficients == HALF and "does not tell" in decision.reason
    curriculum.decide(means(4), ERRORS, HALF)
    assert curriculum.decide(useless, ERRORS, HALF).smoothed == pytest.approx(4)


def test_a_factor_near_0_is_soon_forgotten():
    curriculum = Curriculum(CurriculumConfig(smoothing=0.5))
    curriculum.decide(means(1e-12), ERRORS, HALF)
    assert curriculum.smoothed == pytest.approx(0.1)


def test_a_restored_curriculum_decides_as_the_saved_one():
    saved, restored = Curriculum(CurriculumConfig()), Curriculum(CurriculumConfig())
    saved.decide(means(4), ERRORS, HALF)
    restored.load_state_dict(saved.state_dict())
    assert restored.decide(means(1.2), ERRORS, HALF) == saved.decide(means(1.2), ERRORS, HALF)
    assert restored.decide(means(1.2), ERRORS, HALF) != Curriculum(CurriculumConfig()).decide(means(1.2), ERRORS, HALF)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target", 1.0),
        ("dead_band", -0.1),
        ("step", 0),
        ("lowest", 0.9),
        ("highest", 1.1),
        ("smoothing", 1),
        ("types_per_round", 0),
        ("largest", 1.65),
    ],
)
def test_a_setting_outside_its_range_is_refused(name, value):
    settings = dataclasses.asdict(CurriculumConfig(highest=0.8)) | {name: value}
    with pytest.raises(ValueError, match=f"curriculum.{name} must be .*got {value}"):
        CurriculumConfig(**settings)


class Simulated:
    """A run whose discriminator puts degraded faces 0.3 + 4c below sharp ones, c being their mean coefficient; of the
    damage, the enhancer takes the share `skill`·√c, for little is gained where little is damaged."""

    EASE = {"colour": 0.8, "blur": 0.9, "downsample": 0.9, "noise": 1.2, "jpeg": 1.0}

    def __init__(self, start, **settings):
        self.coefficients = dict.fromkeys(self.EASE, start)
        self.curriculum = Curriculum(CurriculumConfig(**settings))
        self.noise = np.random.default_rng(0)
        self.directions = []

    def round(self, skill):
        mean = np.mean(list(self.coefficients.values()))
        gap = (0.3 + 4 * mean) * (1 - skill * mean**0.5) * math.exp(0.03 * self.noise.standard_normal())
        errors = {kind: 1 - skill * self.EASE[kind] * value**0.5 for kind, value in self.coefficients.items()}
        decision = self.curriculum.decide({"lq": -4.3, "hq": 0.0, "enhanced": -gap}, errors, self.coefficients)
        self.coefficients = decision.coefficients
        self.directions.append(decision.direction)

    def spread(self):
        return max(self.coefficients.values()) - min(self.coefficients.values())


@pytest.mark.parametrize("start", [0.1, 0.5, 1.0])
def test_coefficients_settle_wherever_they_start(start):
    run = Simulated(start)
    for _ in range(40):
        run.round(skill=0.25)
    assert 0.5 < np.mean(list(run.coefficients.values())) < 0.95  # where 4.3 / gap is in the dead band
    assert run.spread() <= 0.3 and run.directions[-10:].count(0) >= 7
    assert sum(run.directions) * (0.75 - start) > 0


def test_coefficients_follow_the_enhancer_up_and_down():
    run = Simulated(0.5)
    after = {}
    for phase, skill in {"young": 0.15, "trained": 0.33, "reduced": 0.1}.items():
        for _ in range(20):
            run.round(skill)
        after[phase] = np.mean(list(run.coefficients.values()))
    assert after["reduced"] < after["young"] + 0.1 < after["trained"]
    assert {1, -1} <= set(run.directions) and run.spread() <= 0.4


def faces(error):
    """Grey faces that are off by these amounts, `[B, 3, 4, 4]`."""
    return torch.tensor(error).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)


def tags(**strengths):
    return [strengths.get(kind, 0.0) for kind in TYPES]


def test_type_errors_weigh_each_sample_by_its_strength():
    hq, lq, enhanced = faces([0.0, 0.0]), faces([0.48, 0.48]), faces([0.23, -0.48])  # half restored; not at all
    errors = TypeErrors()
    errors.add(enhanced, hq, lq, torch.tensor([tags(noise=0.9), tags(noise=0.3, blur=0.1)]))
    found = errors.means()
    assert found["noise"] == pytest.approx((0.9 * 0.5 + 0.3 * 1) / 1.2)
    assert found["blur"] == pytest.approx(1)
    assert found["jpeg"] is None and found.keys() == TYPES.keys()


def test_type_errors_of_parts_add_up_to_those_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    hq, lq, enhanced = (torch.rand(6, 3, 8, 8, generator=generator) for _ in range(3))
    strengths = torch.rand(6, len(TYPES), generator=generator)
    whole, parts = TypeErrors(), [TypeErrors(), TypeErrors()]
    whole.add(enhanced, hq, lq, strengths)
    for part, rows in zip(parts, (slice(0, 2), slice(2, 6)), strict=True):
        part.add(enhanced[rows], hq[rows], lq[rows], strengths[rows])
    together = TypeErrors()
    together.load(parts[0].sums() + parts[1].sums())
    assert together.means() == pytest.approx(whole.means())


def test_type_errors_leave_out_what_is_not_finite_and_keep_no_gradients():
    errors = TypeErrors()
    enhanced = faces([0.0, math.nan]).clone().requires_grad_()
    errors.add(enhanced, faces([0.0, 0.0]), faces([0.5, 0.5]), torch.tensor([tags(noise=1.0), tags(noise=1.0)]))
    assert errors.means()["noise"] < 0.1 and not errors.sums().requires_grad


def test_type_errors_wait_for_no_value():
    """On the meta device there are no values: whatever asks for one, and on a GPU would wait for it, fails."""
    images, strengths = torch.empty(2, 3, 4, 4, device="meta"), torch.empty(2, len(TYPES), device="meta")
    errors = TypeErrors()
    errors.add(images, images, images, strengths)
    assert errors.sums().is_meta


def test_discriminator_means_of_processes_add_up():
    first, second = DiscriminatorMeans(), DiscriminatorMeans()
    first.add(lq=torch.tensor([-1.0, -3.0]), hq=torch.tensor([1.0, 2.0]), enhanced=torch.tensor([0.0, 0.0]))
    second.add(lq=torch.tensor([[-5.0]]), hq=torch.tensor([[3.0]]), enhanced=torch.tensor([[1.5]]))
    together = DiscriminatorMeans()
    together.load(first.sums() + second.sums())
    assert together.means() == pytest.approx({"lq": -3, "hq": 2, "enhanced": 0.5})
    assert augmentation_factor(*together.means().values()) == pytest.approx(5 / 1.5)


def test_discriminator_means_need_the_same_number_of_each():
    with pytest.raises(ValueError, match="as many degraded as sharp"):
        DiscriminatorMeans().add(torch.zeros(2), torch.zeros(2), torch.zeros(3))


def test_means_of_nothing_decide_nothing():
    assert Curriculum(CurriculumConfig()).decide(DiscriminatorMeans().means(), ERRORS, HALF).factor is None
