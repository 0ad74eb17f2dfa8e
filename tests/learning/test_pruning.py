import copy
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from hf_faceenh.learning import pruning
from hf_faceenh.learning.pruning import (
    Reducer,
    ReductionConfig,
    carry_optimizer,
    check_target,
    images_after,
    importance,
    macs,
    masked,
    reduce_tensors,
    remove_channels,
)
from hf_faceenh.models.enhancer import FaceEnhancer
from hf_faceenh.models.gpen import GPENFaceEnhancer


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """On networks this small, threads wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


ALL_IS_WELL = {"index_psnr": 1000.0, "index_identity": 1000.0}  # no layer is ever relaxed
ALL_AT_ONCE = {"target": 0.01, "rounds": 1}  # asks every layer for the largest ratio


def ours(width=16):
    torch.manual_seed(0)
    model = FaceEnhancer(
        sample_size=16,
        encoder_channels=[[width]] + [[width, width]] * 2,
        mapping_channels=[width, 8],
        constant_channels=width,
        decoder_channels=[[width, width]] * 3,
    )
    with torch.no_grad():
        model.generating_network.to_rgb.weight.mul_(10)  # as if trained: at first it does next to nothing
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * (parameter.ndim == 1))  # biases
    return model


def gpen():
    torch.manual_seed(0)
    model = GPENFaceEnhancer(
        sample_size=16,
        encoder_channels=[8] * 3,
        mapping_channels=[8] * 2,
        constant_channels=8,
        decoder_channels=[[8], [8, 8], [8, 8]],
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "noise_weight" in name or parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def faces(model, count=4, seed=1):
    """Poor faces whose sharp twins are what the network makes of them: whatever it still does is needed."""
    size = model.config.sample_size
    lq = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.6
    with torch.no_grad():
        return {"lq": lq, "hq": model(lq).sample}


def noisy(batch):
    """The same with other sharp twins, so that the loss has a gradient."""
    shape = batch["hq"].shape
    return batch | {"hq": batch["hq"] + 0.2 * torch.randn(shape, generator=torch.Generator().manual_seed(2))}


def l2_loss(enhanced, batch):
    return (enhanced - batch["hq"]).square().mean()


def groups_of(model):
    return {group.name: group for group in model.channel_groups()}


@torch.no_grad()
def silence(model, name, channels, makers=True):
    """Channels that do nothing: because nothing makes them, or because nothing reads them."""
    group, parameters = groups_of(model)[name], dict(model.named_parameters())
    for where in group.producers if makers else group.consumers:
        if makers or where.dim == 1:
            entries = [where.start + c * where.repeat + i for c in channels for i in range(where.repeat)]
            parameters[where.parameter].index_fill_(where.dim, torch.tensor(entries), 0)


def reduce(model, batch=None, loss=l2_loss, **config):
    reducer = Reducer(ReductionConfig(**{"multiple": 4} | config), macs(model))
    batch = batch or faces(model)
    return reducer.reduce(model, [noisy(batch) if loss is not l2_loss else batch], loss)


# Multiply-accumulates and importance


@pytest.mark.parametrize("make", [ours, gpen])
def test_macs_are_those_of_a_real_forward(make):
    model = make()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 16, 16))
    assert macs(model) == counter.get_total_flops() // 2
    keep = {name: torch.arange(group.width // 2) for name, group in groups_of(model).items()}
    smaller = remove_channels(model, keep)
    assert macs(smaller) < 0.5 * macs(model)


LAYERS = [
    "convolutional_network.stem",
    "convolutional_network.stages.0.0",
    "convolutional_network.stages.1.1",
    "mapping_network.layers.0",
    "generating_network.constant",
    "generating_network.stages.0.0",
    "generating_network.stages.2.1",
]


@pytest.mark.parametrize("method", ["taylor", "l2"])
@pytest.mark.parametrize("makers", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
def test_useless_channels_are_ranked_last(layer, makers, method):
    model = ours()
    silence(model, layer, [3, 11], makers)
    scores = importance(model, [noisy(faces(model))], l2_loss, method)
    assert set(scores) == set(groups_of(model))
    assert scores[layer].argsort()[:2].sort().values.tolist() == [3, 11]
    assert (scores[layer] > 0).sum() == 14
    assert all((values > 0).all() for name, values in scores.items() if name == LAYERS[0] != layer)


@pytest.mark.parametrize("method", ["taylor", "l2"])
def test_useless_channels_of_gpen_are_ranked_last(method):
    model = gpen()
    names = ["convolutional_network.layers.1", "generating_network.stages.1.convolutions.1"]
    for name in names:
        silence(model, name, [2, 5], makers=False)
    scores = importance(model, [noisy(faces(model))], l2_loss, method)
    for name in names:
        assert scores[name].argsort()[:2].sort().values.tolist() == [2, 5]


@pytest.mark.parametrize("make", [ours, gpen])
def test_taylor_is_the_change_of_the_loss_when_a_channel_fades(make):
    """Against a difference quotient: the channel's inputs to its readers, scaled by 1 ± 0.001."""
    model = make().double()
    batch = {name: values.double() for name, values in noisy(faces(make(), 1)).items()}
    scores = importance(model, [batch], l2_loss)
    for name, group in groups_of(model).items():
        values = []
        for scale in (0.999, 1.001):
            faded = copy.deepcopy(model)
            with torch.no_grad():
                for where in (where for where in group.consumers if where.dim == 1):
                    inputs = dict(faded.named_parameters())[where.parameter].movedim(where.dim, 0)
                    inputs[where.start + where.repeat : where.start + 2 * where.repeat].mul_(scale)  # channel 1
                values.append(l2_loss(faded(batch["lq"]).sample, batch).item())
        slope = abs(values[1] - values[0]) / 0.002
        assert scores[name][1].item() == pytest.approx(slope, rel=5e-3, abs=1e-9), name


def test_taylor_does_not_let_the_faces_cancel_each_other():
    model = ours()
    batches = [noisy(faces(model, 1, seed)) for seed in (1, 2)]
    both = importance(model, [{k: torch.cat([b[k] for b in batches]) for k in batches[0]}], l2_loss)
    alone = [importance(model, [batch], l2_loss) for batch in batches]
    for name, values in both.items():
        torch.testing.assert_close(values, (alone[0][name] + alone[1][name]) / 2)
    assert all(parameter.grad is None for parameter in model.parameters())


# The quality after a layer


@torch.no_grad()
def test_the_image_at_a_layers_depth():
    model = ours()
    lq, names = faces(model)["lq"], groups_of(model)
    image, final = images_after(model, lq, names["generating_network.stages.1.0"])
    assert torch.equal(final, model(lq).sample)
    torch.testing.assert_close(image, F.avg_pool2d(final, 2))
    for name in ("convolutional_network.stages.1.0", "mapping_network.layers.0"):
        assert torch.equal(images_after(model, lq, names[name])[0], final)

    model = gpen()
    image, final = images_after(model, lq, groups_of(model)["generating_network.stages.1.convolutions.0"])
    assert torch.equal(final, model(lq).sample) and image.shape[-2:] == (8, 8)
    last = images_after(model, lq, groups_of(model)["generating_network.stages.2.convolutions.0"])[0]
    assert torch.equal(last, final)
    features = model.convolutional_network(lq)
    attribute = model.mapping_network(features[-1].flatten(1))
    hidden, by_hand = model.generating_network.constant.repeat(len(lq), 1, 1, 1), None
    for stage, noise in zip(model.generating_network.stages[:2], reversed(features), strict=False):
        hidden, by_hand = stage(hidden, by_hand, noise, attribute)
    torch.testing.assert_close(image, by_hand)


def test_quality_is_the_mean_psnr_over_the_range_of_two():
    model, batch = ours(), faces(ours())
    batch["hq"] = batch["hq"].clamp(-0.8, 0.8)
    with torch.no_grad():
        error = (model(batch["lq"]).sample.clamp(-1, 1) - batch["hq"]).square().mean(dim=(1, 2, 3))
    batch["hq"][0] = model(batch["lq"]).sample[0].detach() + 0.2  # 20 dB where nothing is clipped
    assert model(batch["lq"]).sample[0].abs().max() < 1
    expected = [20.0] + [10 * math.log10(4 / max(e, 1e-10)) for e in error[1:].tolist()]
    for parts in ([batch], [{k: v[i : i + 2] for k, v in batch.items()} for i in (0, 2)]):
        quality = pruning.Trials(model, {}, parts, None, lambda values: values).assess(model)
        assert quality.psnr == pytest.approx(sum(expected) / 4, abs=1e-3) and quality.identity is None


def test_a_trial_is_looked_at_after_its_layer():
    model = gpen()
    batch, group = noisy(faces(model)), groups_of(model)["generating_network.stages.1.convolutions.0"]
    scores = {group.name: torch.tensor([3.0, 1, 7, 2, 5, 6, 4, 0])}
    trials = pruning.Trials(model, scores, [batch], None, lambda values: values)
    smaller = remove_channels(model, {group.name: torch.tensor([0, 2, 4, 5, 6])})
    hq = F.avg_pool2d(batch["hq"], 2)
    for network, quality in ((model, trials.before(group)), (smaller, trials.after(group, 3 / 8))):
        with torch.no_grad():
            image = images_after(network, batch["lq"], group)[0].clamp(-1, 1)
        expected = (10 * (4 / (image - hq).square().mean(dim=(1, 2, 3))).log10()).mean().item()
        assert quality.psnr == pytest.approx(expected, abs=1e-3)


def test_identities_are_compared_at_a_layers_depth_where_faces_can_be_told_apart(monkeypatch):
    seen = []

    def identity_distance(recognizer, a, b):
        seen.append((a.shape[-1], b.shape[-1]))
        return torch.tensor([0.25, 0.75])

    monkeypatch.setattr(pruning, "identity_distance", identity_distance)
    torch.manual_seed(0)
    channels = {"encoder_channels": [[4]] + [[4, 4]] * 4, "decoder_channels": [[4, 4]] * 5}
    model = FaceEnhancer(sample_size=64, mapping_channels=[4, 4], constant_channels=4, **channels)
    trials = pruning.Trials(model, {}, [faces(model, 2)], TinyRecognizer(), lambda values: values)
    names = ["generating_network.stages.2.0", "generating_network.stages.3.0", "convolutional_network.stages.2.0"]
    assert all(trials.before(groups_of(model)[name]).identity == 0.5 for name in names)
    assert seen == [(64, 64), (32, 32), (64, 64)]


# One round


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


class TinyRecognizer(torch.nn.Module):
    """A recognizer that knows faces by their mean colours in 4×4 fields."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(
            image_size=32,
            value_range=(0.0, 1.0),
            distance="euclidean",
            template=[[0.38, 0.47], [0.62, 0.47], [0.5, 0.61], [0.39, 0.72], [0.61, 0.72]],
        )

    def forward(self, pixel_values):
        return SimpleNamespace(embeddings=F.adaptive_avg_pool2d(pixel_values, 4).flatten(1))


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


# What follows the channels


@pytest.mark.parametrize("make", [ours, gpen])
def test_gradients_of_the_smaller_network_are_the_reduced_ones(make):
    model = make()
    batch = noisy(faces(model))
    keep = {name: torch.arange(group.width)[1::2] for name, group in groups_of(model).items()}
    with masked(model, keep):
        l2_loss(model(batch["lq"]).sample, batch).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    smaller = remove_channels(model, keep)
    l2_loss(smaller(batch["lq"]).sample, batch).backward()
    for name, expected in reduce_tensors(gradients, model, keep, power=-1).items():
        torch.testing.assert_close(dict(smaller.named_parameters())[name].grad, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, torch.optim.AdamW])
def test_adam_goes_on_with_the_kept_channels_as_if_the_others_were_masked(optimizer_class):
    model = ours()
    batch = noisy(faces(model))
    adapter = torch.nn.Parameter(torch.ones(3))  # parameters of others in the same optimiser
    adam = optimizer_class([*model.parameters(), adapter], lr=1e-3, betas=(0.9, 0.99), amsgrad=True)

    def step(network, optimizer):
        optimizer.zero_grad()
        (l2_loss(network(batch["lq"]).sample, batch) + adapter.square().sum()).backward()
        optimizer.step()

    for _ in range(3):
        step(model, adam)
    keep = {name: torch.arange(group.width)[::3] for name, group in groups_of(model).items()}
    smaller, fresh = remove_channels(model, keep), remove_channels(model, keep)
    carried = optimizer_class([*smaller.parameters(), adapter], lr=1e-3, betas=(0.9, 0.99), amsgrad=True)
    carry_optimizer(adam, model, smaller, keep, carried)
    assert adapter not in carried.state
    first = next(smaller.parameters())
    assert carried.state[first]["step"] == 3
    assert carried.state[first]["step"].data_ptr() != adam.state[next(model.parameters())]["step"].data_ptr()

    with masked(model, keep):
        step(model, adam)
        expected = reduce_tensors(dict(model.named_parameters()), model, keep)
    step(smaller, carried)
    step(fresh, optimizer_class(fresh.parameters(), lr=1e-3, betas=(0.9, 0.99), amsgrad=True))
    for name, parameter in smaller.named_parameters():
        torch.testing.assert_close(parameter, expected[name], atol=2e-6, rtol=0)
    away = [(parameter - expected[name]).abs().max() for name, parameter in fresh.named_parameters()]
    assert max(away) > 1e-4


@pytest.mark.parametrize("make", [ours, gpen])
def test_carried_moments_are_those_that_the_smaller_network_would_have_gathered(make):
    model = make()
    batch = noisy(faces(model))
    keep = {name: torch.arange(group.width)[1::2] for name, group in groups_of(model).items()}
    smaller = remove_channels(model, keep)
    adams = [torch.optim.Adam(network.parameters(), lr=0.0) for network in (model, smaller)]
    with masked(model, keep):
        for network, adam in zip((model, smaller), adams, strict=True):
            for _ in range(2):
                l2_loss(network(batch["lq"]).sample, batch).backward()  # gradients add up: the steps differ
                adam.step()
    carried = torch.optim.Adam(smaller.parameters())
    carry_optimizer(adams[0], model, smaller, keep, carried)
    for parameter in smaller.parameters():
        for moment, tolerance in (("exp_avg", 1e-7), ("exp_avg_sq", 1e-10)):
            expected = adams[1].state[parameter][moment]
            torch.testing.assert_close(carried.state[parameter][moment], expected, atol=tolerance, rtol=1e-3)


def test_an_optimizer_that_has_not_stepped_gives_nothing():
    model = ours()
    smaller = remove_channels(model, {})
    adam, carried = torch.optim.Adam(model.parameters()), torch.optim.Adam(smaller.parameters())
    carry_optimizer(adam, model, smaller, {}, carried)
    assert not carried.state


# Bad settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target", 0),
        ("target", 1.1),
        ("rounds", 0),
        ("index_psnr", 0),
        ("index_identity", -1),
        ("importance", "random"),
        ("multiple", 0),
        ("largest_ratio", 1),
        ("calibration", 0),
    ],
)
def test_bad_settings_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=f"reduction.{name} must be .*; got {value!r}.$"):
        ReductionConfig(**{name: value})


def test_a_target_out_of_reach_is_refused_at_once():
    model = ours()
    check_target(model, ReductionConfig(target=0.4, multiple=8), macs(model))
    with pytest.raises(ValueError, match=r"reduction.target 0.1 cannot be reached: .* 0\.\d+ of the .* stay") as error:
        check_target(model, ReductionConfig(target=0.1, multiple=8), macs(model))
    assert "\n" not in str(error.value)
    check_target(model, ReductionConfig(target=0.1, multiple=4), macs(model))
