"""GPEN's discriminator."""

import json
from pathlib import Path

import pytest
import torch
from gradients import with_and_without_checkpointing
from safetensors.torch import load_file

from hf_faceenh.convert import load_published
from hf_faceenh.models.discriminator import FaceDiscriminator, discriminator_config

GOLDEN = Path(__file__).parents[1] / "data/golden/gpen_discriminator"


def small(**changes):
    torch.manual_seed(0)
    return FaceDiscriminator(**(discriminator_config(16, narrow=1 / 64) | changes))


@torch.no_grad()
def test_equals_the_published_code():
    model, io = load_published(GOLDEN / "weights.safetensors"), load_file(GOLDEN / "io.safetensors")
    torch.testing.assert_close(model(io["input"]).logits, io["output"], atol=1e-4, rtol=0)
    same = FaceDiscriminator(**discriminator_config(**json.loads((GOLDEN / "config.json").read_text())))
    assert {name: value.shape for name, value in same.state_dict().items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }


@torch.no_grad()
def test_the_batch_is_one_group():
    model, faces = small(), torch.rand(6, 3, 16, 16)
    together, alone = model(faces).logits, torch.cat([model(face[None]).logits for face in faces])
    assert (together - alone).abs().max() > 1e-4
    order = torch.randperm(6)
    torch.testing.assert_close(model(faces[order]).logits, together[order])


def test_gradient_penalty_reaches_the_weights():
    """R1 differentiates the gradient with respect to the faces once more."""
    model = small()
    faces = torch.rand(2, 3, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(faces).logits.sum(), faces, create_graph=True)
    gradient.square().sum().backward()
    assert gradient.abs().max() > 0
    assert all(block.conv1.weight.grad.abs().max() > 0 for block in model.blocks)

    # against a finite difference, along the gradient, in the one weight that it is easiest to see
    weight, step = model.stem.weight, 1e-3
    penalties = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0, 0, 0] += sign * step
        (gradient,) = torch.autograd.grad(model(faces).logits.sum(), faces)
        penalties.append(gradient.square().sum().item())
        with torch.no_grad():
            weight[0, 0, 0, 0] -= sign * step
    assert weight.grad[0, 0, 0, 0].item() == pytest.approx((penalties[0] - penalties[1]) / (2 * step), rel=0.05)


def test_gradient_checkpointing_gives_the_same_gradients():
    faces = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(*with_and_without_checkpointing(small, lambda model: model(faces).logits.sum()))


@torch.no_grad()
def test_every_convolution_has_its_own_width_and_round_trips(tmp_path):
    model = small(stem_channels=3, block_channels=((4, 5), (6, 7)), head_channels=(8, 9), license="none").eval()
    faces = torch.rand(2, 3, 16, 16)
    model.save_pretrained(tmp_path)
    loaded = FaceDiscriminator.from_pretrained(tmp_path)
    assert loaded.config.license == "none"
    torch.testing.assert_close(loaded(faces).logits, model(faces, return_dict=False)[0])


def test_refuses_other_shapes_and_sizes():
    with pytest.raises(ValueError, match=r"FaceDiscriminator expects \[B, 3, 16, 16\]"):
        small()(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match="sample_size must be 4·2ⁿ for n block_channels; got 32 for 2"):
        small(sample_size=32)
