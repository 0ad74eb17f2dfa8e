"""Networks found by name, and what is wrong with a name."""

import pytest
from published_models import PUBLISHED, small_model
from safetensors.torch import load_file, save_file
from tiny import tiny_enhancer
from transformers import MobileNetV2Config, MobileNetV2Model

from hf_faceenh.models import FaceEnhancer, GPENFaceEnhancer, load_enhancer, load_transformers
from hf_faceenh.models.gpen import gpen_config


def test_finds_out_which_enhancer_a_folder_holds(tmp_path):
    tiny_enhancer(16).save_pretrained(tmp_path / "ours")
    GPENFaceEnhancer(**gpen_config(8, 8, 1, 1, 0.01)).save_pretrained(tmp_path / "gpen")
    assert isinstance(load_enhancer(tmp_path / "ours"), FaceEnhancer)
    assert isinstance(load_enhancer(str(tmp_path / "gpen")), GPENFaceEnhancer)


@pytest.mark.parametrize("name", PUBLISHED)
def test_finds_published_enhancers_too(name, tmp_path):
    model = small_model(name)
    model.save_pretrained(tmp_path)
    assert type(load_enhancer(tmp_path)) is type(model)


def test_takes_the_enhancer_of_a_pipeline_folder(tmp_path):
    tiny_enhancer(16).save_pretrained(tmp_path / "enhancer")
    assert load_enhancer(tmp_path).config.sample_size == 16


def test_anything_else_is_one_clear_line(tmp_path):
    MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25)).save_pretrained(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.pth").write_bytes(b"")
    for name in ("damaged", "list", "nested", "gaps"):
        tiny_enhancer(16).save_pretrained(tmp_path / name)
    for name, config in {"damaged": "{", "list": "[1, 2]", "nested": '{"_class_name": ["a"]}'}.items():
        (tmp_path / name / "config.json").write_text(config)
    weights = tmp_path / "gaps" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    del state["convolutional_network.stages.0.1.weight"]
    save_file(state, weights)
    for name, message in {
        "other": "expected FaceEnhancer or GPENFaceEnhancer",
        "empty": "holds no enhancer",
        "file.pth": "hf-faceenh convert",
        "damaged": "damaged/config.json is not JSON",
        "list": "list/config.json is no JSON object, but a list",
        "nested": "nested holds a ",
        "gaps": "gaps lacks weights of its FaceEnhancer: convolutional_network.stages.0.1.weight",
        "none/at/all": "neither a folder nor on the Hub",
    }.items():
        with pytest.raises((ValueError, OSError), match=message) as raised:
            load_enhancer(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_a_transformers_model_that_an_option_names(tmp_path):
    MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25)).save_pretrained(tmp_path / "backbone")
    assert isinstance(load_transformers("--backbone", str(tmp_path / "backbone")), MobileNetV2Model)
    assert load_transformers("--backbone", None) is None
    tiny_enhancer(16).save_pretrained(tmp_path / "enhancer")
    (tmp_path / "file.pth").write_bytes(b"")
    for name, message in {
        "enhancer": "--perceptual_backbone .*enhancer is no transformers model: ",
        "file.pth": "hf-faceenh convert",
        "none/at/all": "There is no perceptual backbone .*all, neither a folder nor on the Hub",
    }.items():
        with pytest.raises((ValueError, OSError), match=message) as raised:
            load_transformers("--perceptual_backbone", str(tmp_path / name))
        assert "\n" not in str(raised.value)
