"""Saved pipelines, loaded by this package and by plain diffusers."""

import copy
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines import pipeline_loading_utils
from PIL import Image
from tiny import tiny_enhancer, tiny_pipeline

from hf_faceenh import FaceEnhancePipeline, FaceImageProcessor, FaceRecognizer
from hf_faceenh.loading import VARIANTS, load_pipeline
from hf_faceenh.models import load_enhancer
from hf_faceenh.serialization import BUNDLED


@pytest.fixture(scope="module")
def photo(astronaut):
    return Image.open(astronaut).convert("RGB")


def as_array(image):
    return np.asarray(image).astype(int)


@pytest.fixture(scope="module")
def saved(bundled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    tiny_pipeline(bundled).save_pretrained(folder)
    return folder


def same_pictures(one, other, photo):
    difference = as_array(one(photo).images[0]) - as_array(other(photo).images[0])
    assert np.abs(difference).max() <= 1  # memory layout decides the order of sums, hence a rounding now and then


def test_save_and_load(tiny, saved, photo):
    assert {path.name for path in saved.iterdir()} == {
        "model_index.json", "pipeline.py", "enhancer", "parser", "detector", "super_resolver", "image_processor",
    }  # fmt: skip
    assert not list(saved.rglob("*.bin"))
    same_pictures(FaceEnhancePipeline.from_pretrained(saved), tiny, photo)


def test_plain_diffusers_loads_it(tiny, saved, photo):
    pipe = DiffusionPipeline.from_pretrained(saved, trust_remote_code=True)
    assert type(pipe) is FaceEnhancePipeline
    same_pictures(pipe, tiny, photo)


@pytest.mark.slow  # test_hub.py has such a process too, for a folder and for a repository
def test_a_process_that_imports_only_diffusers_loads_it(saved):
    code = (
        "import sys; from diffusers import DiffusionPipeline; "
        "print(type(DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)).__name__)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "FaceEnhancePipeline"


def test_components_are_replaced_and_left_out(saved, photo):
    other = tiny_enhancer(128)
    pipe = FaceEnhancePipeline.from_pretrained(saved, enhancer=other, detector=None, super_resolver=None)
    assert pipe.enhancer is other and pipe.detector is None and pipe.super_resolver is None
    assert pipe(photo.crop((144, 40, 304, 200)), aligned=True).images[0].size == (256, 256)


def test_without_optional_components_it_is_saved_and_loaded(bundled, tmp_path, photo):
    tiny_pipeline(bundled, detector=None, super_resolver=None).save_pretrained(tmp_path)
    pipe = FaceEnhancePipeline.from_pretrained(tmp_path)
    assert pipe.detector is None and pipe.super_resolver is None and pipe.image_processor is not None


def test_a_recognizer_is_saved_and_loaded_too(bundled, tiny, saved, tmp_path, photo):
    """A folder from before there was one has none; both load, with plain diffusers too."""
    index = json.loads((saved / "model_index.json").read_text())
    index.pop("recognizer")
    shutil.copytree(saved, tmp_path / "old")
    (tmp_path / "old" / "model_index.json").write_text(json.dumps(index))
    assert FaceEnhancePipeline.from_pretrained(tmp_path / "old").recognizer is None
    tiny_pipeline(bundled, recognizer=bundled.recognizer).save_pretrained(tmp_path / "new")
    small = photo.resize((256, 256))
    expected = tiny_pipeline(bundled, recognizer=bundled.recognizer)(small, upscale=1).faces[0][0].identity_distance
    ours = FaceEnhancePipeline.from_pretrained(tmp_path / "new")
    theirs = DiffusionPipeline.from_pretrained(tmp_path / "new", trust_remote_code=True)
    for pipe in (ours, theirs, copy.deepcopy(ours).to(dtype=torch.bfloat16)):
        assert type(pipe.recognizer) is FaceRecognizer and pipe.recognizer.dtype == pipe.enhancer.dtype
        close = 1e-3 if pipe.enhancer.dtype == torch.float32 else 0.05
        assert pipe(small, upscale=1).faces[0][0].identity_distance == pytest.approx(expected, abs=close)


def test_variant_and_dtype(bundled, tmp_path, photo):
    pipe = tiny_pipeline(bundled)
    copy.deepcopy(pipe).to(dtype=torch.float16).save_pretrained(tmp_path, variant="fp16")
    assert (tmp_path / "enhancer" / "diffusion_pytorch_model.fp16.safetensors").exists()
    loaded = FaceEnhancePipeline.from_pretrained(tmp_path, variant="fp16")
    models = (loaded.enhancer, loaded.parser, loaded.detector, loaded.super_resolver)
    assert {model.dtype for model in models} == {torch.float32}
    half = FaceEnhancePipeline.from_pretrained(tmp_path, variant="fp16", torch_dtype=torch.bfloat16)
    assert half.enhancer.dtype == half.parser.dtype == torch.bfloat16
    assert np.abs(as_array(loaded(photo).images[0]) - as_array(pipe(photo).images[0])).mean() < 1


def test_a_variant_of_the_bundled_pipeline(bundled, tmp_path, monkeypatch):
    """By keyword and by name; a folder of that name comes first, and a wrong keyword is refused."""
    fast = load_enhancer(BUNDLED / VARIANTS["fast"], dtype=torch.float32)
    by_keyword, by_name = FaceEnhancePipeline.from_pretrained(variant="fast"), load_pipeline("fast", "cpu")
    for pipe in (by_keyword, by_name):
        assert pipe.enhancer.config.sample_size == fast.config.sample_size
        assert torch.equal(pipe.enhancer.generating_network.constant, fast.generating_network.constant)
        assert type(pipe.parser) is type(bundled.parser)
    assert load_pipeline("fast", "cpu", "bfloat16").enhancer.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="has the variants fast, vivid; got 'fine'"):
        FaceEnhancePipeline.from_pretrained(variant="fine")
    monkeypatch.chdir(tmp_path)
    tiny_enhancer(16).save_pretrained("fast")
    assert load_pipeline("fast", "cpu").enhancer.config.sample_size == 16


@pytest.mark.parametrize("module", ["hf_faceenh.image_processor", "hf_faceenh.old.place", "{name}"])
def test_components_are_found_by_their_class_wherever_they_once_lived(saved, tmp_path, module):
    folder = tmp_path / "old"
    shutil.copytree(saved, folder, ignore=shutil.ignore_patterns("*.py"))
    index = json.loads((folder / "model_index.json").read_text())
    for name in ("image_processor", "enhancer", "detector", "super_resolver"):
        index[name][0] = module.format(name=name)
    (folder / "model_index.json").write_text(json.dumps(index))
    pipe = FaceEnhancePipeline.from_pretrained(folder)
    assert type(pipe.image_processor) is FaceImageProcessor
    assert pipe.config.image_processor == (FaceImageProcessor.__module__, "FaceImageProcessor")
    pipe.save_pretrained(tmp_path / "again")
    again, first = (json.loads((path / "model_index.json").read_text()) for path in (tmp_path / "again", saved))
    again.pop("_name_or_path", None)
    assert again == first


def test_a_component_of_another_library_stays_one(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "other")
    path = tmp_path / "other" / "model_index.json"
    index = json.loads(path.read_text())
    index["enhancer"][0] = "elsewhere.models"
    path.write_text(json.dumps(index))
    with pytest.raises(ValueError, match="elsewhere.models"):
        FaceEnhancePipeline.from_pretrained(tmp_path / "other")


def test_the_tables_of_diffusers_stay_as_they_are():
    assert not [name for name in pipeline_loading_utils.LOADABLE_CLASSES if name.startswith("hf_faceenh")]
