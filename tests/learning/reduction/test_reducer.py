import copy
import math

import pytest
import torch
from reducible import TinyRecognizer, faces, gpen, groups_of, l2_loss, noisy, ours, silence

from hf_faceenh.learning.reduction import (
    Reducer,
    ReductionConfig,
    macs,
)

ALL_IS_WELL = {"index_psnr": 1000.0, "index_identity": 1000.0}  # no layer is ever relaxed

ALL_AT_ONCE = {"target": 0.01, "rounds": 1}  # asks every layer for the largest ratio


def reduce(model, batch=None, loss=l2_loss, **config):
    reducer = Reducer(ReductionConfig(**{"multiple": 4} | config), macs(model))
    batch = batch or faces(model)
    return reducer.reduce(model, [noisy(batch) if loss is not l2_loss else batch], loss)


@pytest.mark.parametrize("make", [ours, gpen])
@pytest.mark.parametrize("multiple", [1, 4])
def test_the_schedule_is_met_where_nothing_is_relaxed(make, multiple):
    model = make()
    first = macs(model)
    reducer = Reducer(ReductionConfig(target=0.3, rounds=3, multiple=multiple, **ALL_IS_WELL), first)
    for number in (1, 2, 3):
        batch = faces(model)
        reduction = reducer.reduce(model, [batch], l2_loss)
        assert reduction.wanted_macs <= first * 0.3 ** (number / 3) + 1
        assert reduction.macs_after == macs(reduction.model) <= reduction.wanted_macs
        if multiple == 1:  # larger steps overshoot more: one channel of this GPEN holds up to 9 %
            assert reduction.macs_after > 0.95 * reduction.wanted_macs
        for layer in reduction.layers:
            assert layer.kept == layer.asked <= 0.5
        model = reduction.model
        assert all(group.width % multiple == 0 for group in model.channel_groups())
    assert macs(model) <= 0.3 * first
    assert type(model)(**dict(model.config)) is not None

    done = reducer.reduce(model, [faces(model)], l2_loss)  # the target is reached: nothing more is asked
    assert done.model is model and not done.keep and all(layer.asked == 0 for layer in done.layers)


def test_a_layer_that_costs_too_much_is_relaxed_to_what_its_quality_allows():
    model = ours()
    some, none = "generating_network.stages.1.0", "convolutional_network.stages.0.1"
    silence(model, some, [1, 2, 7, 13])  # a quarter of its channels can go
    reduction = reduce(model, index_psnr=1.0, **ALL_AT_ONCE)
    layers = {layer.name: layer for layer in reduction.layers}
    assert [trial.ratio for trial in layers[some].trials] == [0.5, 0.25]
    assert (layers[some].asked, layers[some].kept) == (0.5, 0.25)
    assert reduction.keep[some].tolist() == [c for c in range(16) if c not in (1, 2, 7, 13)]
    assert (
        layers[some].psnr_before - layers[some].psnr_after < 1 < layers[some].psnr_before - layers[some].trials[0].psnr
    )

    assert [trial.ratio for trial in layers[none].trials] == [0.5, 0.25]
    assert (layers[none].asked, layers[none].kept) == (0.5, 0)
    assert layers[none].psnr_after == layers[none].psnr_before > layers[none].trials[-1].psnr + 1
    assert none not in reduction.keep
    assert list(reduction.keep) == [some] and reduction.macs_after < reduction.macs_before
    assert reduction.quality_after.psnr == pytest.approx(reduction.quality_before.psnr, abs=1)


def test_all_accepted_reductions_are_made_at_once_and_assessed():
    model, batch = ours(), None
    names = ["convolutional_network.stages.0.0", "mapping_network.layers.0", "generating_network.stages.2.1"]
    for name in names:
        silence(model, name, range(8, 16))
    batch = faces(model)
    before = copy.deepcopy(model.state_dict())
    reduction = reduce(model, batch, index_psnr=1.0, **ALL_AT_ONCE)
    assert list(reduction.keep) == names
    with torch.no_grad():
        torch.testing.assert_close(reduction.model(batch["lq"]).sample, batch["hq"], atol=1e-5, rtol=0)
    assert {g.width for g in reduction.model.channel_groups() if g.name in names} == {8}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_nothing_changes_where_no_layer_can_be_reduced_or_nothing_is_asked():
    model = ours()
    for config in ({"index_psnr": 0.01, **ALL_AT_ONCE}, {"target": 1.0}):
        reduction = reduce(model, **config)
        assert reduction.model is model and reduction.keep == {}
        assert reduction.macs_after == reduction.macs_before == macs(model)
        assert reduction.quality_after == reduction.quality_before
        assert all(layer.kept == 0 for layer in reduction.layers)


def test_layers_are_asked_according_to_what_they_cost_and_save():
    model = ours()
    robust, deep = "generating_network.stages.1.1", "generating_network.stages.0.0"
    settings = {"target": 0.6, "rounds": 1, "index_psnr": 1000.0, "multiple": 1}

    def asked(model):
        return {layer.name: layer.asked for layer in reduce(model, **settings).layers}

    before = asked(model)
    assert before[robust] > before[deep]  # as wide, but at 8×8 instead of at 4×4
    silence(model, robust, range(4, 16))
    after = asked(model)
    assert after[robust] > before[robust]
    grown = [name for name in after if name != robust and after[name] > before[name]]
    assert len(grown) <= 1  # the last step, which fills up what is still wanted, may be any layer's
    widths = {group.name: group.width for group in model.channel_groups()}
    assert all(after[name] - before[name] < 1.5 / widths[name] for name in grown)  # and is one channel


def test_with_an_infinite_index_all_layers_get_the_same_ratio():
    model = ours()
    silence(model, "generating_network.stages.2.0", range(4, 16))  # would be asked for more
    endless = {"index_psnr": math.inf, "index_identity": math.inf}
    reduction = reduce(model, target=0.6, rounds=1, multiple=1, **endless)
    asked = [layer.asked for layer in reduction.layers]
    assert max(asked) - min(asked) <= 1 / 8 and min(asked) > 0.1  # of eight channels, one more or less
    assert all(layer.kept == layer.asked for layer in reduction.layers)


def test_a_round_in_which_all_asked_layers_fail_turns_to_the_others():
    model = ours()
    needed, spare = "generating_network.stages.2.0", "generating_network.stages.0.1"
    silence(model, spare, range(12, 16))
    reducer = Reducer(ReductionConfig(target=0.97, rounds=1, multiple=4, index_psnr=1.0), macs(model))
    reducer.sensitivities = {name: 1.0 if name == needed else 4.0 for name in groups_of(model)}  # a wrong belief
    reduction = reducer.reduce(model, [faces(model)], l2_loss)
    layers = {layer.name: layer for layer in reduction.layers}
    assert layers[needed].asked > 0 and layers[needed].kept == 0
    assert list(reduction.keep) == [spare] and layers[spare].kept == 0.25
    assert reducer.sensitivities[needed] > 4 > reducer.sensitivities[spare]


def test_the_identity_index_relaxes_layers_as_well():
    model, batch = ours(), faces(ours())
    config = ReductionConfig(multiple=4, index_psnr=1000.0, index_identity=1e-6, **ALL_AT_ONCE)
    strict = Reducer(config, macs(model)).reduce(model, [batch], l2_loss, TinyRecognizer())
    assert not strict.keep
    layer = strict.layers[0]
    assert layer.identity_before == layer.identity_after == pytest.approx(0, abs=1e-3)
    assert layer.trials[-1].identity > 1e-6
    free = Reducer(config, macs(model)).reduce(model, [batch], l2_loss)
    assert len(free.keep) == len(free.layers) and free.layers[0].identity_before is None


def test_a_decision_depends_on_averages_only():
    """Another process, with other faces and the same averages, decides the same."""
    model, seen = ours(), []
    config = ReductionConfig(multiple=1, target=0.5, rounds=1, index_psnr=3.0)
    settings = [model, [faces(model, seed=1)], l2_loss], [model, [faces(model, seed=2)], l2_loss]

    def record(values):
        seen.append(values)
        return values

    first = Reducer(config, macs(model)).reduce(*settings[0], average=record)
    replay = iter(seen)
    second = Reducer(config, macs(model)).reduce(*settings[1], average=lambda values: next(replay))
    assert next(replay, None) is None
    assert second.layers == first.layers and second.quality_after == first.quality_after
    assert all(torch.equal(first.keep[name], channels) for name, channels in second.keep.items())
    own = Reducer(config, macs(model)).reduce(*settings[1])
    assert own.layers != first.layers


def test_a_resumed_reducer_goes_on_alike():
    model, batch = ours(), faces(ours())
    reducer = Reducer(ReductionConfig(target=0.3, rounds=3, multiple=1, index_psnr=20.0), macs(model))
    model = reducer.reduce(model, [batch], l2_loss).model
    resumed = Reducer(reducer.config, reducer.first_macs)
    resumed.load_state_dict(copy.deepcopy(reducer.state_dict()))
    assert reducer.reduce(model, [batch], l2_loss).layers == resumed.reduce(model, [batch], l2_loss).layers
    assert resumed.state_dict() == reducer.state_dict()


def test_calibration_faces_are_counted_and_needed():
    model, counts = ours(), []

    def loss(enhanced, batch):
        counts.append(len(enhanced))
        return l2_loss(enhanced, batch)

    reducer = Reducer(ReductionConfig(multiple=4, calibration=3), macs(model))
    reducer.reduce(model, [faces(model, 2, seed) for seed in (1, 2, 3)], loss)
    assert counts == [1, 1, 1]
    with pytest.raises(ValueError, match="without calibration faces; give at least one batch"):
        reducer.reduce(model, [], loss)
