"""Small networks of the published families, with weights made from the names of their keys."""

from functools import partial
from pathlib import Path

import torch
from checkpoints import shapes_of
from recipe import recipe_weights

from hf_faceenh.convert import codeformer, gfpgan, restoreformer
from hf_faceenh.convert.architecture import Architecture
from hf_faceenh.models.codeformer import CodeFormerFaceEnhancer
from hf_faceenh.models.restoreformer import RestoreFormerFaceEnhancer

(GFPGAN,), (CODEFORMER,), (RESTOREFORMER,) = (family.ARCHITECTURES for family in (gfpgan, codeformer, restoreformer))
VQGAN = {"channels": (32, 32, 64), "code_channels": 32, "codes": 32}


def gfpgan_state() -> dict[str, torch.Tensor]:
    """A published file of 128 px faces and narrow maps."""
    return recipe_weights(shapes_of("GFPGAN-small"))


def codeformer_state() -> dict[str, torch.Tensor]:
    """A published file of 64 px faces and narrow maps:"""
    model = CodeFormerFaceEnhancer(sample_size=64, width=32, layers=2, fused_resolutions=(32,), **VQGAN)
    return recipe_weights(published_shapes(CODEFORMER, model))


def restoreformer_state(plus: bool = False) -> dict[str, torch.Tensor]:
    """A published file of 64 px faces and narrow maps."""
    model = RestoreFormerFaceEnhancer(sample_size=64, attended_resolutions=1 + plus, **VQGAN)
    return recipe_weights(published_shapes(RESTOREFORMER, model))


def published_shapes(architecture: Architecture, model: torch.nn.Module) -> dict[str, torch.Size]:
    """Key → shape in a published file of `model`; what we do not need has any."""
    ours, places = model.state_dict(), architecture.places(model)
    return {key: torch.Size([1]) if place is None else ours[place].shape for key, place in places.items()}


PUBLISHED = {
    "GFPGAN": (GFPGAN, gfpgan_state),
    "CodeFormer": (CODEFORMER, codeformer_state),
    "RestoreFormer": (RESTOREFORMER, restoreformer_state),
    "RestoreFormer++": (RESTOREFORMER, partial(restoreformer_state, plus=True)),
}


def small_model(name: str) -> torch.nn.Module:
    architecture, state = PUBLISHED[name]
    return architecture.load(state())


# What every published enhancer does


@torch.no_grad()
def check_single_faces_equal_a_batch(model: torch.nn.Module, face: torch.Tensor, tolerance: float) -> None:
    faces = torch.cat([face, -face])
    single = torch.cat([model(one[None]).sample for one in faces])
    torch.testing.assert_close(single, model(faces).sample, atol=tolerance, rtol=0)


@torch.no_grad()
def check_same_result_and_nothing_overwritten(model: torch.nn.Module, face: torch.Tensor) -> None:
    copy, weights = face.clone(), {name: value.clone() for name, value in model.state_dict().items()}
    first, second = model(face).sample, model(face, return_dict=False)[0]
    assert torch.equal(first, second) and torch.equal(face, copy)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


@torch.no_grad()
def check_round_trip(model: torch.nn.Module, face: torch.Tensor, license: str, folder: Path) -> None:
    model.save_pretrained(folder)
    again = type(model).from_pretrained(folder)
    assert license in again.config.license
    assert torch.equal(again(face).sample, model(face).sample)
