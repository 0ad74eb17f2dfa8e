"""Removed channels give the image of masked ones."""

import math

import pytest
import torch

from hf_faceenh.models.channels import (
    masked,
    noise_feature_groups,
    reduce_tensors,
    reduced_config,
    remove_channels,
)
from hf_faceenh.models.enhancer import FaceEnhancer
from hf_faceenh.models.gfpgan import GFPGANFaceEnhancer
from hf_faceenh.models.gpen import GPENFaceEnhancer
from hf_faceenh.models.layers import StyledConv2d

# every layer of another width, so that a mixed-up pair of them cannot go unnoticed
OURS = {
    "sample_size": 32,
    "encoder_channels": [[3], [4, 5], [6, 7], [9, 10]],
    "mapping_channels": [11, 8, 12],
    "constant_channels": 13,
    "decoder_channels": [[14, 15], [16, 17], [18, 19], [20, 21]],
}
GPEN = {
    "sample_size": 16,
    "encoder_channels": [3, 5, 7],
    "mapping_channels": [9, 11, 6],
    "constant_channels": 4,
    "decoder_channels": [[8], [10, 12], [13, 14]],
    "license": "none",
}
GFPGAN = {
    "sample_size": 16,
    "encoder_channels": [3, 5, 7],
    "halving_channels": [4, 6],
    "doubling_channels": [8, 9, 10],
    "style_dim": 2,
    "constant_channels": 11,
    "scale_channels": [12, 13],
    "shift_channels": [14, 15],
    "conditioned_channels": [16, 17],
    "decoder_channels": [[18], [19, 20], [21, 22]],
    "license": "none",
}
OURS_LAYERS = 7 + 2 + 1 + 8  # encoder, mapping but its last, constant, decoder
GPEN_LAYERS = 3 + 1 + 5
GFPGAN_LAYERS = 3 + 2 + 3 + 1 + 3 * 2 + 5
LAYERS = {"ours": OURS_LAYERS, "gpen": GPEN_LAYERS, "gfpgan": GFPGAN_LAYERS}


def ours():
    torch.manual_seed(0)
    return with_biases(FaceEnhancer(**OURS).eval())


def gfpgan():
    torch.manual_seed(0)
    return with_biases(GFPGANFaceEnhancer(**GFPGAN).eval())


@torch.no_grad()
def with_biases(model):
    """Which start at 0, as do noise weights."""
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.ndim == 1 else 0))
    return model


def gpen():
    torch.manual_seed(0)
    model = GPENFaceEnhancer(**GPEN).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)  # the noise weights start at 0: the noise features would have no effect
    return model


def faces(model):
    size = model.config.sample_size
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


MAKERS = {"ours": ours, "gpen": gpen, "gfpgan": gfpgan}
every_network = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def some_of(group):
    """About half of the channels, in no regular pattern."""
    order = torch.randperm(group.width, generator=torch.Generator().manual_seed(group.width))
    return order[: math.ceil(group.width / 2)].sort().values


@torch.no_grad()
def assert_equal_to_masked(model, keep):
    lq = faces(model)
    before = model(lq).sample
    with masked(model, keep):
        expected = model(lq).sample
    assert (expected - before).abs().max() > 1e-3  # the channels did something
    torch.testing.assert_close(model(lq).sample, before, atol=0, rtol=0)
    smaller = remove_channels(model, keep)
    torch.testing.assert_close(smaller(lq).sample, expected, atol=1e-5, rtol=0)
    return smaller


@pytest.mark.parametrize(("name", "index"), [(name, index) for name in LAYERS for index in range(LAYERS[name])])
def test_removing_channels_of_one_layer_equals_masking_them(name, index):
    model = MAKERS[name]()
    group = model.channel_groups()[index]
    smaller = assert_equal_to_masked(model, {group.name: some_of(group)})
    assert [g.width for g in smaller.channel_groups()] == [
        math.ceil(g.width / 2) if g is group or g.name == group.name else g.width for g in model.channel_groups()
    ]


@every_network
def test_removing_channels_of_all_layers_at_once_and_again(make, tmp_path):
    model = make()
    smaller = assert_equal_to_masked(model, {g.name: some_of(g) for g in model.channel_groups()})
    smallest = assert_equal_to_masked(smaller, {g.name: some_of(g) for g in smaller.channel_groups() if g.width > 1})
    smallest.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    lq = faces(model)
    torch.testing.assert_close(loaded(lq).sample, smallest(lq).sample, atol=0, rtol=0)
    assert reduced_config(loaded, {}) == reduced_config(smallest, {})
    assert loaded.config.license == model.config.license


@pytest.mark.parametrize("name", LAYERS)
def test_groups_name_every_width_of_the_config_once_but_the_fixed_ones(name):
    model = MAKERS[name]()
    groups = model.channel_groups()
    assert len({group.path for group in groups}) == len({group.name for group in groups}) == len(groups)
    assert len(groups) == LAYERS[name]
    for group in groups:
        width = model.config
        for key in group.path:
            width = width[key]
        assert width == group.width
    features = model(faces(model), return_features=True).noise_features
    found = noise_feature_groups(groups)
    assert [(g.width, g.resolution) for g in found] == [(f.shape[1], f.shape[-1]) for f in features]


def test_the_attribute_feature_and_published_mapping_networks_keep_their_width():
    assert [g.path for g in ours().channel_groups() if g.part == "mapping_network"] == [
        ("mapping_channels", 0),
        ("mapping_channels", 1),
    ]
    for make in (gpen, gfpgan):
        assert all(group.part != "mapping_network" for group in make().channel_groups())


@torch.no_grad()
def test_any_channels_of_any_layers_may_go_from_gfpgan():
    model = gfpgan()
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)

        def some(below, generator=generator):
            return int(torch.randint(below, (), generator=generator))

        groups = [group for group in model.channel_groups() if some(3)]
        kept = {g.name: torch.randperm(g.width, generator=generator)[: 1 + some(g.width)] for g in groups}
        assert_equal_to_masked(model, {name: channels.sort().values for name, channels in kept.items()})


@torch.no_grad()
def test_a_masked_channel_is_one_whose_map_is_zero():
    """`masked` must be what its name says, by other means: hooks that zero the maps."""
    model, lq = ours(), faces(ours())
    names = {"convolutional_network.stages.0.1": "", "generating_network.stages.1.0": ".conv"}
    keep = {g.name: some_of(g) for g in model.channel_groups() if g.name in names}
    handles = []
    for name, channels in keep.items():
        module = model.get_submodule(name + names[name])
        stays = torch.zeros(module.out_channels, 1, 1).index_fill_(0, channels, 1)
        handles.append(module.register_forward_hook(lambda _, __, output, stays=stays: output * stays))
    expected = model(lq).sample
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(remove_channels(model, keep)(lq).sample, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_demodulation_forgets_the_removed_inputs_by_the_stated_factor():
    """Where only the map of a channel is 0, its weights still count in GPEN's demodulation; once removed, not."""
    model = gpen()
    group = next(g for g in model.channel_groups() if g.path == ("decoder_channels", 1, 0))
    reader = "generating_network.stages.1.convolutions.1"
    channels = some_of(group)
    old: StyledConv2d = model.get_submodule(reader)
    new: StyledConv2d = remove_channels(model, {group.name: channels}).get_submodule(reader)
    torch.nn.init.zeros_(old.bias), torch.nn.init.zeros_(new.bias)  # so that the activation keeps a factor as it is
    noise_width = old.weight.shape[1] - group.width
    inputs = torch.cat([channels, torch.arange(group.width, group.width + noise_width)])
    hidden, noise, style = torch.randn(2, len(inputs), 8, 8), torch.randn(2, noise_width, 8, 8), torch.randn(2, 6)
    dead = torch.zeros(2, old.weight.shape[1], 8, 8).index_copy_(1, inputs, hidden)

    squares = (old.modulation(style)[:, None] * old.weight.square().sum(dim=(2, 3)).sqrt()).square()  # [B, out, in]
    factor = (squares.sum(dim=2) / squares[:, :, inputs].sum(dim=2)).sqrt()  # [B, out]
    width = old.weight.shape[0]
    larger, smaller = new(hidden, noise, style), old(dead, noise, style)
    assert (factor >= 1).all() and factor.max() > 1.1
    torch.testing.assert_close(larger[:, :width], smaller[:, :width] * factor[:, :, None, None], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(larger[:, width:], smaller[:, width:])  # the noise half is not demodulated


@torch.no_grad()
def test_an_equalised_learning_rate_keeps_its_effective_weights():
    model = gpen()
    stem = model.channel_groups()[0]
    smaller = remove_channels(model, {stem.name: torch.tensor([0, 2])})
    before, after = model.convolutional_network.layers[1].weight, smaller.convolutional_network.layers[1].weight
    effective = [weight / math.sqrt(weight[0].numel()) for weight in (before[:, [0, 2]], before, after)]
    torch.testing.assert_close(effective[2], before[:, [0, 2]] / math.sqrt(before[0].numel()))
    assert not torch.allclose(after, before[:, [0, 2]])


def test_tensors_follow_the_channels():
    model = ours()
    group = model.channel_groups()[1]
    reader = f"{group.consumers[0].parameter}"
    averages = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    reduced = reduce_tensors(averages, model, {group.name: torch.tensor([1, 3])})
    smaller = remove_channels(model, {group.name: torch.tensor([1, 3])})
    assert {name: t.shape for name, t in reduced.items()} == {n: p.shape for n, p in smaller.named_parameters()}
    assert torch.equal(reduced[f"{group.name}.bias"], averages[f"{group.name}.bias"][[1, 3]])
    assert torch.equal(reduced[reader], averages[reader][:, [1, 3]])
    untouched = "generating_network.to_rgb.weight"
    assert torch.equal(reduced[untouched], averages[untouched])
    assert reduced[untouched].data_ptr() != averages[untouched].data_ptr()


@every_network
def test_nothing_removed_is_a_copy(make):
    model, state = make().train(), torch.get_rng_state()
    copy = remove_channels(model, {})
    assert torch.equal(torch.get_rng_state(), state)  # a run with a reduction draws the same numbers
    assert copy.training and copy is not model
    assert all(parameter.requires_grad for parameter in copy.parameters())
    for (name, a), (_, b) in zip(model.state_dict().items(), copy.state_dict().items(), strict=True):
        assert torch.equal(a, b) and a.data_ptr() != b.data_ptr(), name


def test_a_network_of_default_widths_can_be_reduced():
    """diffusers drops arguments that were left out as defaults from a config that it rebuilds a network from."""
    with torch.device("meta"):
        model = FaceEnhancer()
        config = reduced_config(model, {"generating_network.constant": 88})
        assert FaceEnhancer(**config).generating_network.constant.shape[1] == 88


def test_half_precision_stays():
    model = ours().bfloat16()
    smaller = remove_channels(model, {"generating_network.constant": torch.arange(4)})
    types = {name: p.dtype for name, p in smaller.named_parameters()}
    assert types == {name: p.dtype for name, p in model.named_parameters()}
    assert {dtype for name, dtype in types.items() if ".stem." not in name} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"stem": [0]}, "no layer 'stem'"),
        ({"generating_network.constant": []}, "at least one"),
        ({"generating_network.constant": [3, 1]}, "ascending"),
        ({"generating_network.constant": [0, 13]}, "from 0 to 12; got \\[0, 13\\]"),
    ],
)
def test_impossible_channels_are_refused_in_one_line(keep, message):
    keep = {name: torch.tensor(channels, dtype=torch.long) for name, channels in keep.items()}
    with pytest.raises(ValueError, match=message) as error:
        remove_channels(ours(), keep)
    assert "\n" not in str(error.value)
