"""Small published checkpoints, and what every refusal of a file has in common."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hf_faceenh.convert import ConversionError, convert

DATA = Path(__file__).parent / "data"
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])
KERNEL = TAPS[:, None] * TAPS[None] / 64


def shapes_of(manifest):
    """Key → shape of every tensor in a published file."""
    return json.loads((DATA / "manifests" / f"{manifest}.json").read_text())


def state_dict_of(manifest):
    """Zeros of the official file's keys and shapes; each tensor stores one number only, so that files are small."""
    state = {}
    for key, shape in shapes_of(manifest).items():
        state[key] = torch.zeros(1).expand(shape)
        if key.endswith(".kernel"):
            state[key] = KERNEL * (4 if "generator" in key else 1)
    return state


def golden(name="gpen_generator"):
    return load_file(DATA / "golden" / name / "weights.safetensors")


def saved(state, path):
    torch.save(state, path)
    return path


def refused(source, target, match):
    with pytest.raises(ConversionError, match=match) as caught:
        convert(source, target)
    assert "\n" not in str(caught.value) and str(source) in str(caught.value)
    assert not target.exists() and not [entry for entry in target.parent.iterdir() if target.name in entry.name]


def without(state, key):
    return {name: value for name, value in state.items() if name != key}
