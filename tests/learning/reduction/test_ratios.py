import pytest
import torch
from reducible import faces, gfpgan, gpen, groups_of, l2_loss, ours
from torch.utils.flop_counter import FlopCounterMode

from hf_faceenh.learning.reduction import (
    Reducer,
    ReductionConfig,
    check_target,
    macs,
)
from hf_faceenh.models.channels import remove_channels


@pytest.mark.parametrize("make", [ours, gpen, gfpgan])
def test_macs_are_those_of_a_real_forward(make):
    model = make()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 16, 16))
    assert macs(model) == counter.get_total_flops() // 2
    keep = {name: torch.arange(group.width // 2) for name, group in groups_of(model).items()}
    smaller = remove_channels(model, keep)
    assert macs(smaller) < 0.5 * macs(model)


def test_a_target_out_of_reach_is_refused_at_once():
    model = ours()
    check_target(model, ReductionConfig(target=0.4, multiple=8), macs(model))
    with pytest.raises(ValueError, match=r"reduction.target 0.1 cannot be reached: .* 0\.\d+ of the .* stay") as error:
        check_target(model, ReductionConfig(target=0.1, multiple=8), macs(model))
    assert "\n" not in str(error.value)
    check_target(model, ReductionConfig(target=0.1, multiple=4), macs(model))


def test_a_layer_of_one_channel_saves_nothing_and_stops_no_reduction():
    model = ours(width=1)
    reducer = Reducer(ReductionConfig(target=0.5, rounds=1, multiple=1), macs(model))
    reduction = reducer.reduce(model, [faces(model)], l2_loss)
    assert not reduction.keep and reduction.macs_after == macs(model) > reduction.wanted_macs
