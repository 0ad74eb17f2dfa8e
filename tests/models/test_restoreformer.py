"""RestoreFormer's published network, and RestoreFormer++'s."""

import pytest
import torch
from checkpoints import shapes_of
from published_models import (
    RESTOREFORMER,
    VQGAN,
    check_round_trip,
    check_same_result_and_nothing_overwritten,
    check_single_faces_equal_a_batch,
    small_model,
)
from recipe import published, recipe_face, recipe_weights, sampled

from hf_faceenh.models.restoreformer import Codebook, RestoreFormerFaceEnhancer


@pytest.fixture(scope="module", params=["RestoreFormer", "RestoreFormer++"])
def model(request):
    return small_model(request.param)


def codes_of(model, faces):
    encoded, _ = model.encoder(faces)
    return model.codebook.nearest(model.quant_conv(encoded))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("manifest", "golden"), [("RestoreFormer", "restoreformer"), ("RestoreFormer++", "restoreformer_pp")]
)
@torch.no_grad()
def test_full_size_equals_the_published_code(manifest, golden):
    model, expected = RESTOREFORMER.load(recipe_weights(shapes_of(manifest))), published(golden)
    face = recipe_face(512)
    assert torch.equal(codes_of(model, face), expected["codes"].long())
    values = expected["output"]
    torch.testing.assert_close(sampled(model(face).sample), values, atol=1e-3 * float(values.abs().max()), rtol=0)


@torch.no_grad()
def test_equals_the_published_code():
    model = RestoreFormerFaceEnhancer(sample_size=128, **VQGAN)
    model.load_state_dict(small_model("RestoreFormer").state_dict())
    values = published("restoreformer_small")["output"]
    torch.testing.assert_close(sampled(model.eval()(recipe_face(128)).sample), values, atol=1e-5, rtol=0)


def test_nearest_code():
    codebook, maps = Codebook(7, 5), torch.randn(2, 5, 3, 3)
    distances = (maps.flatten(2).mT[:, :, None] - codebook.weight).square().sum(3)
    assert torch.equal(codebook.nearest(maps), distances.argmin(2))
    torch.testing.assert_close(codebook(maps)[1, :, 0, 2], codebook.weight[distances.argmin(2)[1, 2]])


def test_single_faces_equal_a_batch(model):
    check_single_faces_equal_a_batch(model, recipe_face(64), 1e-4)


def test_same_face_same_result_and_nothing_overwritten(model):
    check_same_result_and_nothing_overwritten(model, recipe_face(64))


def test_round_trip(model, tmp_path):
    check_round_trip(model, recipe_face(64), "Apache-2.0", tmp_path)


@pytest.mark.parametrize(
    ("dtype", "others", "most", "on_average"), [(torch.float16, 3, 2, 0.5), (torch.bfloat16, 16, 12, 2)]
)
@torch.no_grad()
def test_half_precision(model, dtype, others, most, on_average, tmp_path, monkeypatch):
    """A few of 256 codes are others, and their places look other. With the same codes, the image hardly differs; its
    values reach 3 to 4, not 1 as those of a face do."""
    model.save_pretrained(tmp_path)
    half, face = RestoreFormerFaceEnhancer.from_pretrained(tmp_path, dtype=dtype), recipe_face(64)
    assert half(face.to(dtype)).sample.dtype == half.dtype == dtype
    codes = codes_of(model, face)
    assert (codes_of(half, face) != codes).sum() < others
    monkeypatch.setattr(half.codebook, "nearest", lambda encoded: codes)
    steps = (half(face).sample - model(face).sample).abs() * 255 / 2  # of 1/255 of the range
    assert steps.max() < most and steps.mean() < on_average


@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (1, 3, 32, 32), (3, 64, 64)])
def test_refuses_other_shapes(model, shape):
    with pytest.raises(ValueError, match=r"RestoreFormerFaceEnhancer expects \[B, 3, 64, 64\] in \[-1, 1\]"):
        model(torch.rand(shape))


@pytest.mark.parametrize("changes", [{"sample_size": 66}, {"attended_resolutions": 3}])
def test_refuses_what_does_not_fit(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        RestoreFormerFaceEnhancer(**{"sample_size": 64} | VQGAN | changes)
