"""What is wrong with weights is said before a picture is made with them."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import tiny_enhancer

from hf_faceenh import FaceEnhancePipeline, FaceEnhancer, FaceRecognizer
from hf_faceenh.loading import load_pipeline, load_single
from hf_faceenh.models.soundness import LARGEST
from hf_faceenh.serialization import BUNDLED


@pytest.fixture
def folder(tmp_path):
    """Of a small enhancer."""
    tiny_enhancer(16).save_pretrained(tmp_path / "enhancer")
    return tmp_path / "enhancer"


def change_weights(folder, change):
    (file,) = folder.glob("*.safetensors")
    save_file(change(load_file(file)), file, {"format": "pt"})


def change_config(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def with_value(value):
    def change(state):
        key = next(key for key in state if state[key].is_floating_point())
        state[key].view(-1)[0] = value
        return state

    return change


def without_one(state):
    del state[next(iter(state))]
    return state


def as_integers(state):
    return {key: value.to(torch.int8) for key, value in state.items()}


BROKEN = {
    "nan": (with_value(float("nan")), "holds values that are not finite numbers"),
    "infinite": (with_value(float("inf")), "holds values that are not finite numbers"),
    "lacks one": (without_one, "lacks weights of its FaceEnhancer"),
    "int8": (as_integers, "is of the kind I8, expected one of F64, F32, F16, BF16"),
}


@pytest.mark.parametrize("change, match", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("load", [FaceEnhancer.from_pretrained, lambda folder: load_single(str(folder))])
def test_broken_weights_do_not_load(change, match, load, folder):
    change_weights(folder, change)
    with pytest.raises((ValueError, OSError), match=match) as raised:
        load(folder)
    assert "\n" not in str(raised.value)


def test_the_same_of_a_network_of_the_other_library(tmp_path):
    shutil.copytree(BUNDLED / "recognizer", tmp_path / "recognizer")
    change_weights(tmp_path / "recognizer", without_one)
    with pytest.raises(ValueError, match="lacks weights of its FaceRecognizer"):
        FaceRecognizer.from_pretrained(tmp_path / "recognizer")


@pytest.mark.parametrize(
    "values", [{"constant_channels": 10**9}, {"encoder_channels": [[16], [16, LARGEST + 1]]}, {"patch_size": -(10**6)}]
)
def test_a_config_beyond_every_network_builds_nothing(values, folder):
    change_config(folder, **values)
    with pytest.raises(
        OSError, match=f"{next(iter(values))} is -?[0-9]+; no network of this package goes beyond 4096"
    ):
        load_single(str(folder))


def test_sound_weights_load_with_their_report(folder):
    model, report = FaceEnhancer.from_pretrained(folder, output_loading_info=True)
    assert isinstance(model, FaceEnhancer) and not report["missing_keys"]


@pytest.fixture
def pipeline(tmp_path):
    """A folder of the bundled pipeline."""
    shutil.copytree(BUNDLED, tmp_path / "pipeline")
    return tmp_path / "pipeline"


def drop_head(state):
    return {key: value for key, value in state.items() if not key.startswith("decode_head.classifier")}


@pytest.mark.parametrize(
    "component, change, match",
    [
        ("parser", drop_head, "lacks weights of its parser: it holds"),
        ("parser", with_value(float("nan")), "of the parser holds values that are not finite"),
        ("super_resolver", with_value(float("nan")), "of the SuperResolver holds values that are not finite"),
        ("detector", as_integers, "is of the kind I8"),
    ],
)
def test_a_pipeline_with_one_broken_component(component, change, match, pipeline):
    change_weights(pipeline / component, change)
    with pytest.raises(OSError, match=match) as raised:
        load_pipeline(str(pipeline), "cpu")
    assert "\n" not in str(raised.value)


def test_a_parser_of_absurd_depth_builds_nothing(pipeline):
    change_config(pipeline / "parser", depths=[10_000_000, 1, 1, 1])
    with pytest.raises(OSError, match="parser: depths is 10000000"):
        load_pipeline(str(pipeline), "cpu")


def test_a_result_that_is_not_finite_is_not_given(tmp_path):
    pipe = FaceEnhancePipeline.from_pretrained()
    with torch.no_grad():
        next(pipe.super_resolver.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite numbers, so there is no result"):
        pipe(Image.fromarray(np.full((40, 40, 3), 90, np.uint8)))
