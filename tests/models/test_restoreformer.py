"""RestoreFormer's published network, and RestoreFormer++'s."""

import pytest
import torch
from checkpoints import shapes_of
from published_models import RESTOREFORMER, VQGAN, small_model
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


@torch.no_grad()
def test_single_faces_equal_a_batch(model):
    faces = torch.cat([recipe_face(64), -recipe_face(64)])
    single = torch.cat([model(face[None]).sample for face in faces])
    torch.testing.assert_close(single, model(faces).sample, atol=1e-4, rtol=0)


@torch.no_grad()
def test_same_face_same_result_and_nothing_overwritten(model):
    face = recipe_face(64)
    copy, weights = face.clone(), {name: value.clone() for name, value in model.state_dict().items()}
    first, second = model(face).sample, model(face, return_dict=False)[0]
    assert torch.equal(first, second) and torch.equal(face, copy)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


@torch.no_grad()
def test_round_trip(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = RestoreFormerFaceEnhancer.from_pretrained(tmp_path)
    assert "Apache-2.0" in again.config.license
    assert torch.equal(again(recipe_face(64)).sample, model(recipe_face(64)).sample)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_finds_most_codes(model, dtype, tmp_path):
    model.save_pretrained(tmp_path)
    half, face = RestoreFormerFaceEnhancer.from_pretrained(tmp_path, dtype=dtype), recipe_face(64)
    assert half(face.to(dtype)).sample.dtype == half.dtype == dtype
    assert (codes_of(half, face) == codes_of(model, face)).float().mean() > 0.9


@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (1, 3, 32, 32), (3, 64, 64)])
def test_refuses_other_shapes(model, shape):
    with pytest.raises(ValueError, match=r"RestoreFormerFaceEnhancer expects \[B, 3, 64, 64\] in \[-1, 1\]"):
        model(torch.rand(shape))


@pytest.mark.parametrize("changes", [{"sample_size": 66}, {"attended_resolutions": 3}])
def test_refuses_what_does_not_fit(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        RestoreFormerFaceEnhancer(**{"sample_size": 64} | VQGAN | changes)
