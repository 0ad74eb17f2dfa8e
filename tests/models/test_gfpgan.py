"""GFPGAN's published network."""

import pytest
import torch
from checkpoints import shapes_of
from gradients import with_and_without_checkpointing
from published_models import (
    GFPGAN,
    check_same_result_and_nothing_overwritten,
    check_single_faces_equal_a_batch,
    small_model,
)
from recipe import published, recipe_face, recipe_weights, sampled

from hf_faceenh.models.gfpgan import GFPGANFaceEnhancer, gfpgan_config


@pytest.fixture(scope="module")
def model():
    return small_model("GFPGAN")


def small(**changes):
    torch.manual_seed(0)
    model = GFPGANFaceEnhancer(**(gfpgan_config(16, style_dim=8, narrow=1 / 64) | changes)).eval()
    for stage in model.generating_network.stages:  # 0 at the start: the noise would have no effect
        for convolution in stage.convolutions:
            torch.nn.init.normal_(convolution.noise_weight)
            torch.nn.init.normal_(convolution.bias)
    return model


@torch.no_grad()
def test_equals_the_published_code(model):
    image = model(recipe_face(128)).sample
    torch.testing.assert_close(sampled(image), published("gfpgan_small")["output"], atol=1e-5, rtol=0)


@pytest.mark.slow
@torch.no_grad()
def test_full_size_equals_the_published_code():
    model = GFPGAN.load(recipe_weights(shapes_of("GFPGANv1.4")))
    image = model(recipe_face(512)).sample
    torch.testing.assert_close(sampled(image), published("gfpgan")["output"], atol=1e-4, rtol=0)


def test_gradient_path_equals_the_fast_one(model):
    image = model(recipe_face(128)).sample
    assert image.requires_grad
    torch.testing.assert_close(sampled(image), published("gfpgan_small")["output"], atol=1e-5, rtol=0)


def test_single_faces_equal_a_batch(model):
    check_single_faces_equal_a_batch(model, recipe_face(128), 1e-5)


def test_same_face_same_result_and_nothing_overwritten(model):
    check_same_result_and_nothing_overwritten(model, recipe_face(128))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_stays_near(model, dtype, tmp_path):
    face = recipe_face(128)
    model.save_pretrained(tmp_path)
    half = GFPGANFaceEnhancer.from_pretrained(tmp_path, dtype=dtype)
    assert half.dtype == dtype and half(face.to(dtype)).sample.dtype == dtype
    steps = (half(face).sample - model(face).sample).abs() * 255 / 2  # of 1/255 of the range
    assert steps.max() < 2


def test_arguments_of_the_published_code_give_its_sizes():
    with torch.device("meta"):
        default = GFPGANFaceEnhancer()
    assert dict(default.config) | gfpgan_config() == dict(default.config)


@torch.no_grad()
def test_every_convolution_has_its_own_width():
    model = small(
        encoder_channels=(2, 3, 5), halving_channels=(4, 6), doubling_channels=(3, 2, 7), constant_channels=4,
        scale_channels=(3, 5), shift_channels=(4, 2), conditioned_channels=(1, 6),
        decoder_channels=((2,), (3, 5), (6, 4)),
    )  # fmt: skip
    output = model(torch.rand(1, 3, 16, 16), return_features=True)
    assert output.sample.shape == (1, 3, 16, 16)
    assert [tuple(f.shape) for f in output.noise_features] == [(1, 7, 16, 16), (1, 3, 8, 8), (1, 5, 4, 4)]
    assert output.attribute_feature.shape == (1, 6 * 8)  # five convolutions and the last to-RGB


@torch.no_grad()
def test_features_are_what_the_image_is_made_of(model):
    face = recipe_face(128)
    output = model(face, return_features=True)
    image = model.generating_network(output.noise_features, output.attribute_feature)
    torch.testing.assert_close(image, output.sample, atol=0, rtol=0)
    assert model(face).noise_features is None


def test_gradient_checkpointing_gives_the_same_gradients():
    face = torch.rand(2, 3, 16, 16)
    gradients = with_and_without_checkpointing(small, lambda model: model(face).sample.square().sum())
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0])
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_round_trip(tmp_path):
    model, face = small(license="none"), torch.rand(1, 3, 16, 16)
    model.save_pretrained(tmp_path)
    loaded = GFPGANFaceEnhancer.from_pretrained(tmp_path)
    assert loaded.config.license == "none"
    torch.testing.assert_close(loaded(face).sample, model(face).sample)  # its noise, too, is in the folder


@pytest.mark.parametrize("shape", [(1, 4, 16, 16), (1, 3, 32, 32), (3, 16, 16)])
def test_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"GFPGANFaceEnhancer expects \[B, 3, 16, 16\] in \[-1, 1\]"):
        small()(torch.rand(shape))


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_size": 48},
        {"encoder_channels": (8, 8)},
        {"decoder_channels": ((8,), (8, 8), (8,))},
        {"halving_channels": (4,)},
        {"doubling_channels": (4, 4)},
        {"conditioned_channels": (4, 4, 4)},
    ],
)
def test_refuses_sizes_that_do_not_fit(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        small(**changes)
