import copy
import math

import pytest
import torch
from reducible import TinyRecognizer, faces, gpen, groups_of, l2_loss, noisy, ours, silence

from hf_faceenh.learning.reduction import (
    Outcome,
    Quality,
    Reducer,
    ReductionConfig,
    Settlement,
    macs,
)

ANY = {"total_psnr": math.inf, "total_identity": math.inf, "index_features": math.inf}  # loss of the whole, or of maps

ALL_IS_WELL = {"index_psnr": 1000.0, "index_identity": 1000.0} | ANY  # no layer is ever relaxed

ALIKE = {"index_psnr": math.inf, "index_identity": math.inf} | ANY

ALL_AT_ONCE = {"target": 0.01, "rounds": 1}  # asks every layer for the largest ratio


class Additive:
    """Trials of layers that lose what is said, in dB, and more where all of them are cut."""

    def __init__(self, losses, together=0.0):
        self.model = ours()
        self.groups = {name: groups_of(self.model)[name] for name in losses}
        self.losses, self.together = losses, together

    def outcome(self, ratios):
        cut = [name for name, ratio in ratios.items() if ratio]
        lost = sum(self.losses[name] for name in cut) + self.together * (len(cut) == len(self.losses))
        readers = [reader for group in self.groups.values() for reader in group.readers]
        return Outcome(Quality(30 - lost, None), dict.fromkeys(readers, 0.0))

    def saved(self, name):
        return macs(self.model) - macs(self.model, {name: 8})


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
        assert all(layer.kept == layer.settled <= 0.5 for layer in reduction.layers)
        model = reduction.model
        assert all(group.width % multiple == 0 for group in model.channel_groups())
    assert macs(model) <= 0.3 * first
    assert type(model)(**dict(model.config)) is not None

    done = reducer.reduce(model, [faces(model)], l2_loss)  # the target is reached: nothing more is asked
    assert done.model is model and not done.keep and not any(layer.trials for layer in done.layers)


def test_a_layer_gives_what_its_index_allows():
    model = ours()
    some, none = "generating_network.stages.1.0", "convolutional_network.stages.0.1"
    silence(model, some, [1, 2, 7, 13])  # a quarter of its channels can go
    reduction = reduce(model, index_psnr=1.0, **ANY, **ALL_AT_ONCE)
    layers = {layer.name: layer for layer in reduction.layers}
    assert layers[some].kept == 0.25 and layers[none].kept == 0
    assert reduction.keep[some].tolist() == [c for c in range(16) if c not in (1, 2, 7, 13)]
    trials = layers[some].trials
    assert [trials[0].ratio, trials[-1].ratio] == [0.25, 0.5] and trials[0].lost < 0.1 and trials[-1].lost > 0.9
    assert {trial.ratio for trial in layers[none].trials} == {0.25} and layers[none].trials[-1].lost > 1
    assert list(reduction.keep) == [some] and reduction.macs_after < reduction.macs_before
    assert reduction.quality_after.psnr == pytest.approx(reduction.quality_before.psnr, abs=1)


def test_a_layer_is_judged_by_the_maps_that_are_computed_from_its_own():
    """Where the final image sees nothing of it."""
    model = ours()
    hidden, reader = "generating_network.stages.0.0", "generating_network.stages.0.1"
    silence(model, reader, range(16), makers=False)  # nothing of what is computed from it reaches the image
    within = {"total_psnr": math.inf, "total_identity": math.inf, "index_psnr": 1.0} | ALL_AT_ONCE
    blind = reduce(model, **within, index_features=math.inf)
    assert {layer.name: layer.kept for layer in blind.layers}[hidden] == 0.5
    seeing = reduce(model, **within, index_features=0.001)
    layer = next(layer for layer in seeing.layers if layer.name == hidden)
    assert layer.kept == 0 and layer.trials[0].lost > 1
    assert layer.trials[0].quality.psnr == pytest.approx(seeing.quality_before.psnr, abs=1e-3)


def test_layers_are_settled_with_the_earlier_cuts_in_place():
    """Each of two layers can go without the other, but not both."""
    first, second = "convolutional_network.stages.0.0", "generating_network.stages.2.1"
    trials = Additive({first: 0.6, second: 0.6}, together=5.0)
    settlement = Settlement(trials, ReductionConfig(multiple=8, index_psnr=1.0, **ANY), {}, {})
    settlement.cut_cheapest(wanted=0)
    made, refused = sorted((first, second), key=trials.saved, reverse=True)
    assert [cut.layer for cut in settlement.cuts] == [made] and settlement.ratios == {made: 0.5, refused: 0.0}
    assert [cut.lost for cut in settlement.tried[refused]] == [pytest.approx(0.6), pytest.approx(5.6)]


def test_a_layer_saves_up_its_index_for_its_first_step():
    """Its smallest step costs two and a half rounds' index."""
    layer, other = "convolutional_network.stages.0.0", "generating_network.stages.2.1"
    trials = Additive({layer: 2.5, other: 0.6})
    for waited, allowed in ((1, False), (2, False), (3, True)):
        settlement = Settlement(trials, ReductionConfig(multiple=8, index_psnr=1.0, **ANY), {}, {layer: waited})
        settlement.cut_cheapest(wanted=0)
        assert settlement.ratios == {layer: 0.5 * allowed, other: 0.5}


def test_rounds_without_a_cut_are_counted():
    model, waited = ours(), {}
    reducer = Reducer(ReductionConfig(multiple=4, target=0.5, rounds=9, index_psnr=1e-3, **ANY), macs(model))
    for _ in range(2):
        reduction = reducer.reduce(model, [noisy(faces(model))], l2_loss)
        waited = {layer.name: 1 if layer.kept else waited.get(layer.name, 1) + 1 for layer in reduction.layers}
        assert reducer.waited == waited and max(waited.values()) > 1
        model = reduction.model


def test_the_most_expensive_cuts_are_taken_back_until_the_whole_keeps_its_limit():
    names = ["convolutional_network.stages.0.0", *(f"generating_network.stages.{at}" for at in ("0.0", "2.1"))]
    trials = Additive(dict(zip(names, (1.0, 1.3, 1.2), strict=True)))
    limit = {"total_psnr": 2.3, "total_identity": math.inf}
    settlement = Settlement(trials, ReductionConfig(multiple=8, index_psnr=10.0, **limit), {}, {})
    settlement.cut_cheapest(wanted=0)
    assert sorted(settlement.ratios.values()) == [0.5, 0.5, 0.5] and settlement.outcome.quality.psnr < 30 - 2.3
    settlement.take_back()
    dearest = max(names, key=lambda name: trials.losses[name] / trials.saved(name))
    assert settlement.ratios == dict.fromkeys(names, 0.5) | {dearest: 0.0}
    assert settlement.outcome == trials.outcome(settlement.ratios)
    assert settlement.macs == macs(trials.model, {name: 8 for name in names if name != dearest})


def test_a_reduction_says_what_was_taken_back(monkeypatch):
    model, taken = ours(), "convolutional_network.stages.0.0"

    def take_back(settlement):
        settlement.ratios[taken] = 0.0

    monkeypatch.setattr(Settlement, "take_back", take_back)
    reduction = reduce(model, **ALL_AT_ONCE, **ALL_IS_WELL)
    layers = {layer.name: layer for layer in reduction.layers}
    assert layers[taken].settled == 0.5 and layers[taken].kept == 0 and taken not in reduction.keep
    assert all(layer.kept == layer.settled == 0.5 for name, layer in layers.items() if name != taken)


def test_nothing_changes_where_no_layer_can_be_reduced_or_nothing_is_asked():
    model = ours()
    for config in ({"index_psnr": 0.01, **ALL_AT_ONCE}, {"total_psnr": 0.01, **ALL_AT_ONCE}, {"target": 1.0}):
        reduction = reduce(model, **config)
        assert reduction.model is model and reduction.keep == {}
        assert reduction.macs_after == reduction.macs_before == macs(model)
        assert reduction.quality_after == reduction.quality_before
        assert all(layer.kept == 0 for layer in reduction.layers)


def test_layers_are_cut_according_to_what_they_cost_and_save():
    model = ours()
    deep = "generating_network.stages.0.0"
    wide = [f"generating_network.stages.{place}" for place in ("1.1", "0.1", "1.0")]
    settings = {"target": 0.6, "rounds": 1, "index_psnr": 1000.0, "multiple": 1} | ANY

    def kept(model):
        return {layer.name: layer.kept for layer in reduce(model, **settings).layers}

    before = kept(model)
    robust = next(name for name in wide if before[name] < 0.5)  # which it is of untrained ones, rounding decides
    silence(model, robust, range(4, 16))
    after = kept(model)
    assert after[robust] == 0.5 > before[robust]
    assert sum(after.values()) - after[robust] < sum(before.values()) - before[robust]
    assert after[deep] <= after[robust]


def test_where_nothing_is_too_much_all_layers_get_the_same_ratio_untried():
    model = ours()
    silence(model, "generating_network.stages.2.0", range(4, 16))  # would be cut first
    reduction = reduce(model, target=0.6, rounds=1, multiple=1, **ALIKE)
    kept = [layer.kept for layer in reduction.layers]
    assert max(kept) - min(kept) <= 1 / 8 and min(kept) > 0.1  # of eight channels, one more or less
    assert not any(layer.trials for layer in reduction.layers)


def test_what_an_earlier_round_learnt_spares_trials():
    model = ours()
    reducer = Reducer(ReductionConfig(target=0.9, rounds=1, multiple=4, **ALL_IS_WELL), macs(model))
    first, second = (reducer.reduce(model, [faces(model)], l2_loss) for _ in range(2))
    tried = [sum(len(layer.trials) for layer in reduction.layers) for reduction in (first, second)]
    assert all(layer.trials for layer in first.layers)
    assert tried[1] < tried[0] / 2 and second.macs_after <= second.wanted_macs


def test_the_identity_index_counts_as_well():
    model, batch = ours(), faces(ours())
    config = ReductionConfig(multiple=4, index_psnr=1000.0, index_identity=1e-6, **ANY, **ALL_AT_ONCE)
    strict = Reducer(config, macs(model)).reduce(model, [batch], l2_loss, TinyRecognizer())
    assert not strict.keep
    assert strict.quality_before.identity == strict.quality_after.identity == pytest.approx(0, abs=1e-3)
    assert strict.layers[0].trials[-1].quality.identity > 1e-6
    free = Reducer(config, macs(model)).reduce(model, [batch], l2_loss)
    assert len(free.keep) == len(free.layers) and free.quality_after.identity is None


def test_a_decision_depends_on_averages_only():
    """Another process, with other faces and the same averages, decides the same."""
    model, seen = ours(), []
    config = ReductionConfig(multiple=4, target=0.5, rounds=1, index_psnr=3.0, **ANY)
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
    reducer = Reducer(ReductionConfig(target=0.3, rounds=3, multiple=4, index_psnr=20.0, **ANY), macs(model))
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
