"""CodeFormer's published network."""

import pytest
import torch
import torch.nn.functional as F
from checkpoints import shapes_of
from published_models import (
    CODEFORMER,
    VQGAN,
    check_round_trip,
    check_same_result_and_nothing_overwritten,
    check_single_faces_equal_a_batch,
    small_model,
)
from recipe import published, recipe_face, recipe_weights, sampled

from hf_faceenh.models.codeformer import CodeFormerFaceEnhancer, adapted


@pytest.fixture(scope="module")
def model():
    return small_model("CodeFormer")


def codes_of(model, faces):
    encoded, _ = model.encoder(faces)
    return model.predictor(encoded).argmax(dim=2)


@pytest.mark.slow
@torch.no_grad()
def test_full_size_equals_the_published_code():
    model, expected, face = (
        CODEFORMER.load(recipe_weights(shapes_of("codeformer-v0.1.0"))),
        published("codeformer"),
        recipe_face(512),
    )
    assert torch.equal(codes_of(model, face), expected["codes"].long())
    for fidelity in ("0", "0.5", "1"):
        image, values = model(face, fidelity=float(fidelity)).sample, expected[f"output_{fidelity}"]
        torch.testing.assert_close(sampled(image), values, atol=1e-3 * float(values.abs().max()), rtol=0)


@torch.no_grad()
def test_equals_what_it_was_when_it_equalled_the_published_code(model):
    face, expected = recipe_face(64), published("codeformer_small")
    assert torch.equal(codes_of(model, face), expected["codes"].long())
    for fidelity in ("0", "0.5", "1"):
        image = model(face, fidelity=float(fidelity)).sample
        torch.testing.assert_close(sampled(image), expected[f"output_{fidelity}"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_fidelity_moves_the_result_and_has_a_default(model):
    face = recipe_face(64)
    low, middle, high = (model(face, fidelity=value).sample for value in (0, 0.5, 1))
    assert (low - high).abs().max() > 0.1 and (low - middle).abs().max() > 0.1
    assert torch.equal(model(face).sample, middle) and model.config.fidelity == 0.5


@torch.no_grad()
def test_codes_alone_see_only_codes_colours_and_no_features(model):
    """At 0 the generator is given nothing of the face but its codes, and each channel's mean and deviation."""
    face = recipe_face(64)
    encoded, _ = model.encoder(face)
    looked_up = model.codebook.weight[codes_of(model, face)].mT.unflatten(2, (16, 16))
    image = model.generator(adapted(looked_up, encoded), {}, 0.0)
    torch.testing.assert_close(image, model(face, fidelity=0).sample, atol=1e-5, rtol=0)


@torch.no_grad()
def test_adapted_maps_have_the_other_ones_mean_and_deviation():
    codes, encoded = torch.rand(2, 3, 8, 8), 5 * torch.rand(2, 3, 8, 8) + 1
    result = adapted(codes, encoded)
    torch.testing.assert_close(result.mean((2, 3)), encoded.mean((2, 3)))
    torch.testing.assert_close(result.std((2, 3)), encoded.std((2, 3)), atol=1e-3, rtol=0)


def test_single_faces_equal_a_batch(model):
    check_single_faces_equal_a_batch(model, recipe_face(64), 1e-4)


def test_same_face_same_result_and_nothing_overwritten(model):
    check_same_result_and_nothing_overwritten(model, recipe_face(64))


def test_gradients_reach_the_face(model):
    face = recipe_face(64).requires_grad_()
    model(face).sample.square().mean().backward()
    assert face.grad.abs().sum() > 0


def test_round_trip(model, tmp_path):
    check_round_trip(model, recipe_face(64), "Non-commercial", tmp_path)


@pytest.mark.parametrize(
    ("dtype", "others", "most", "on_average"), [(torch.float16, 3, 2, 0.5), (torch.bfloat16, 16, 12, 2)]
)
@torch.no_grad()
def test_half_precision(model, dtype, others, most, on_average, tmp_path, monkeypatch):
    """A few of 256 codes are others, and their places look other. With the same codes, the image hardly differs; its
    values reach 3 to 4, not 1 as those of a face do."""
    model.save_pretrained(tmp_path)
    half, face = CodeFormerFaceEnhancer.from_pretrained(tmp_path, dtype=dtype), recipe_face(64)
    assert half(face.to(dtype)).sample.dtype == half.dtype == dtype
    codes = codes_of(model, face)
    assert (codes_of(half, face) != codes).sum() < others
    monkeypatch.setattr(half.predictor, "forward", lambda encoded: F.one_hot(codes, half.config.codes))
    steps = (half(face).sample - model(face).sample).abs() * 255 / 2  # of 1/255 of the range
    assert steps.max() < most and steps.mean() < on_average


@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (1, 3, 32, 32), (3, 64, 64)])
def test_refuses_other_shapes(model, shape):
    with pytest.raises(ValueError, match=r"CodeFormerFaceEnhancer expects \[B, 3, 64, 64\] in \[-1, 1\]"):
        model(torch.rand(shape))


@pytest.mark.parametrize("fidelity", [-0.1, 1.5])
def test_refuses_a_fidelity_out_of_range(model, fidelity):
    with pytest.raises(ValueError, match=r"fidelity must lie in \[0, 1\]; got"):
        model(recipe_face(64), fidelity=fidelity)


@pytest.mark.parametrize("changes", [{"sample_size": 66}, {"fused_resolutions": (24,)}, {"fidelity": 2}])
def test_refuses_what_does_not_fit(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        CodeFormerFaceEnhancer(
            **{"sample_size": 64, "width": 32, "layers": 1, "fused_resolutions": (32,)} | VQGAN | changes
        )
