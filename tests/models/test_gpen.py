"""GPEN's published network."""

import json
from pathlib import Path

import pytest
import torch
from gradients import with_and_without_checkpointing
from safetensors.torch import load_file

from hf_faceenh.convert import load_published
from hf_faceenh.models.gpen import GPENFaceEnhancer, gpen_config

GOLDEN = Path(__file__).parents[1] / "data/golden/gpen_generator"
CONFIG = gpen_config(**json.loads((GOLDEN / "config.json").read_text()))


@pytest.fixture
def published():
    return load_published(GOLDEN / "weights.safetensors"), load_file(GOLDEN / "io.safetensors")


def small(**changes):
    torch.manual_seed(0)
    model = GPENFaceEnhancer(**(gpen_config(16, style_dim=8, n_mlp=2, narrow=1 / 64) | changes)).eval()
    for stage in model.generating_network.stages:  # 0 at the start: the noise features would have no effect
        for convolution in stage.convolutions:
            torch.nn.init.normal_(convolution.noise_weight)
            torch.nn.init.normal_(convolution.bias)
    return model


@torch.no_grad()
def test_equals_the_published_code(published):
    model, io = published
    output = model(io["input"], return_features=True)
    torch.testing.assert_close(output.sample, io["output"], atol=1e-4, rtol=0)
    torch.testing.assert_close(output.attribute_feature, io["latent"][:, 0], atol=1e-4, rtol=0)
    assert [tuple(feature.shape) for feature in output.noise_features] == [(2, 16, 64 >> i, 64 >> i) for i in range(5)]


def test_gradient_path_equals_the_fast_one(published):
    model, io = published
    image = model(io["input"]).sample
    assert image.requires_grad
    torch.testing.assert_close(image, io["output"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_single_faces_equal_a_batch(published):
    model, io = published
    single = torch.cat([model(face[None]).sample for face in io["input"]])
    torch.testing.assert_close(single, model(io["input"]).sample, atol=1e-5, rtol=0)


@torch.no_grad()
def test_forward_leaves_input_features_and_weights_alone(published):
    model, io = published
    face, weights = io["input"].clone(), {name: value.clone() for name, value in model.state_dict().items()}
    first = model(face, return_features=True)
    copies = [feature.clone() for feature in first.noise_features]
    second = model(face, return_features=True)
    assert torch.equal(face, io["input"])
    assert all(torch.equal(a, b) for a, b in zip(first.noise_features, copies, strict=True))
    assert torch.equal(first.sample, second.sample)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_arguments_of_the_published_code_give_its_sizes():
    assert dict(GPENFaceEnhancer.from_config(CONFIG).config) | CONFIG == dict(GPENFaceEnhancer(**CONFIG).config)
    with torch.device("meta"):
        default, published = GPENFaceEnhancer(), GPENFaceEnhancer(**gpen_config())
    assert dict(default.config) | gpen_config() == dict(default.config)
    assert sum(p.numel() for p in published.parameters()) == 71_005_223
    assert gpen_config(1024)["decoder_channels"][-1] == (32, 32)
    assert gpen_config(256, channel_multiplier=1, narrow=0.5)["encoder_channels"] == (32, 64, 128, 256, 256, 256, 256)


@torch.no_grad()
def test_every_convolution_has_its_own_width():
    model = small(
        encoder_channels=(3, 5, 7), mapping_channels=(9, 11, 6), constant_channels=4,
        decoder_channels=((2,), (3, 5), (6, 4)),
    )  # fmt: skip
    output = model(torch.rand(1, 3, 16, 16), return_features=True)
    assert output.sample.shape == (1, 3, 16, 16)
    assert [feature.shape[1] for feature in output.noise_features] == [3, 5, 7]
    assert output.attribute_feature.shape == (1, 6)


@torch.no_grad()
def test_round_trip(tmp_path):
    model, face = small(license="none"), torch.rand(1, 3, 16, 16)
    model.save_pretrained(tmp_path)
    loaded = GPENFaceEnhancer.from_pretrained(tmp_path)
    assert loaded.config.license == "none"
    torch.testing.assert_close(loaded(face).sample, model(face).sample)
    half = GPENFaceEnhancer.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)(face.bfloat16()).sample
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), model(face).sample, atol=0.1, rtol=0.1)


def test_gradient_checkpointing_gives_the_same_gradients():
    face = torch.rand(2, 3, 16, 16)
    gradients = with_and_without_checkpointing(small, lambda model: model(face).sample.square().sum())
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("shape", [(1, 4, 16, 16), (1, 3, 32, 32), (3, 16, 16)])
def test_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"GPENFaceEnhancer expects \[B, 3, 16, 16\] in \[-1, 1\]"):
        small()(torch.rand(shape))


@pytest.mark.parametrize(
    "changes",
    [{"sample_size": 48}, {"encoder_channels": (8, 8)}, {"decoder_channels": ((8,), (8, 8), (8,))}],
)
def test_refuses_sizes_that_do_not_fit(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        small(**changes)
