"""The pipeline's networks as ONNX: written, checked against torch, and run through onnxruntime."""

import importlib.util
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from published_models import PUBLISHED, small_model
from tiny import SMALL, tiny_codeformer, tiny_enhancer, tiny_pipeline

from hf_faceenh import FaceEnhancePipeline, FaceEnhancer, FaceRecognizer, GPENFaceEnhancer, SuperResolver, hub
from hf_faceenh.batch.run import checksum
from hf_faceenh.cli import main
from hf_faceenh.enhancing import enhance
from hf_faceenh.model_card import model_card
from hf_faceenh.models.face_network import FaceEnhancerOutput
from hf_faceenh.models.gpen import gpen_config
from hf_faceenh.models.recognizer import FaceRecognizerConfig
from hf_faceenh.onnx.exporting import write_onnx
from hf_faceenh.onnx.graphs import OPSET
from hf_faceenh.onnx.networks import load_network

ROOT = Path(__file__).parents[1]
CELLS = {"architecture": "cells", "num_feat": 4, "num_block": 1, "scales": (2, 4), "denoising": True}
# One small enhancer of each family.
ENHANCERS = {
    "ours": lambda: FaceEnhancer(**SMALL),
    "ours in patches": lambda: FaceEnhancer(**SMALL | {"sample_size": 64, "patch_size": 2}),
    "GPEN": lambda: GPENFaceEnhancer(**gpen_config(64, style_dim=32, n_mlp=3, narrow=0.03125)),
    **{name: partial(small_model, name) for name in PUBLISHED},
}
SUPER_RESOLVERS = {
    "compact": {"num_feat": 4, "num_conv": 1, "scale": 4, "anti_ringing": True},
    "compact, denoising": {"num_feat": 4, "num_conv": 1, "denoising": True},
    "residual": {"architecture": "residual", "num_feat": 4, "num_block": 1},
    "rrdb x2": {"architecture": "rrdb", "num_feat": 4, "num_block": 1, "num_grow_ch": 2},
    "rrdb x4": {"architecture": "rrdb", "num_feat": 4, "num_block": 1, "num_grow_ch": 2, "scale": 4},
    "cells, anti-ringing": CELLS | {"anti_ringing": True},
}


def tiny_recognizer():
    torch.manual_seed(0)
    return FaceRecognizer(FaceRecognizerConfig(stem_channels=4, stage_channels=[4, 8], stage_blocks=[1, 2])).eval()


@pytest.fixture(scope="module")
def complete(bundled):
    """A quick pipeline with everything that can be exported."""
    torch.manual_seed(0)
    parts = {"super_resolver": SuperResolver(**CELLS), "recognizer": tiny_recognizer()}
    return tiny_pipeline(bundled, enhancer=tiny_enhancer(64), **parts)


@pytest.fixture(scope="module")
def exported(complete, tmp_path_factory):
    """Its folder. Do not change it."""
    return hub.export(tmp_path_factory.mktemp("onnx") / "tiny-faces", complete, onnx=True)


@pytest.fixture(scope="module")
def photo(astronaut):
    return Image.open(astronaut).convert("RGB").resize((160, 160), Image.Resampling.LANCZOS)


def loaded(folder, **options):
    pipe = FaceEnhancePipeline.from_pretrained(folder, backend="onnx", **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def written(role, network, folder):
    """The folder of a pipeline that is nothing but one network, after its files passed the check."""
    network.save_pretrained(folder / role)
    write_onnx({role: network}, folder)
    return folder


def shapes(values):
    return {v.name: [side.dim_param or side.dim_value for side in v.type.tensor_type.shape.dim] for v in values}


# Written


def test_files_of_both_precisions_say_what_goes_in_and_comes_out(exported):
    files = {str(path.relative_to(exported)) for path in exported.rglob("*.onnx")}
    names = (
        "detector/model enhancer/model parser/model recognizer/model super_resolver/model_x2 super_resolver/model_x4"
    )
    assert files == {f"{name}{variant}.onnx" for name in names.split() for variant in ("", ".fp16")}
    sizes = {}
    for file in files:
        model = onnx.load(exported / file)
        onnx.checker.check_model(model, full_check=True)
        assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]
        tensors = [*model.graph.input, *model.graph.output]
        assert {one.type.tensor_type.elem_type for one in tensors} == {onnx.TensorProto.FLOAT}
        sizes[file] = shapes(model.graph.input), shapes(model.graph.output)
        weights = {tensor.data_type for tensor in model.graph.initializer if np.prod(tensor.dims) > 64}
        assert weights == {onnx.TensorProto.FLOAT16 if "fp16" in file else onnx.TensorProto.FLOAT}, file
    faces, pictures = ["batch", 3, 64, 64], ["batch", 3, "height", "width"]
    assert sizes["enhancer/model.onnx"] == ({"sample": faces}, {"enhanced": faces})
    assert sizes["parser/model.fp16.onnx"][0] == {"pixel_values": pictures}
    assert sizes["detector/model.onnx"][1]["landmarks"] == ["batch", 10, "height/4", "width/4"]
    assert sizes["super_resolver/model_x4.onnx"][0] == {"sample": pictures, "denoise": [1]}
    assert sizes["super_resolver/model_x4.onnx"][1] == {"upscaled": ["batch", 3, "4*height", "4*width"]}


def test_the_card_lists_the_files(exported, complete):
    text = ModelCard.load(exported / "README.md").text
    assert f"Opset {OPSET}" in text and "--model tiny-faces --backend onnx" in text
    assert "| `enhancer/model.onnx` | `sample [batch, 3, 64, 64]` | `enhanced [batch, 3, 64, 64]` |" in text
    assert "`super_resolver/model_x2.onnx` | `sample [batch, 3, height, width]`, `denoise [1]`" in text
    assert "*.onnx filter=lfs" in (exported / ".gitattributes").read_text()
    assert "ONNX" not in str(model_card(complete))


@pytest.mark.parametrize("family", ENHANCERS)
def test_every_family_gives_the_same_as_onnx(family, tmp_path):
    torch.manual_seed(0)
    model = ENHANCERS[family]()
    written("enhancer", model, tmp_path)
    halves = [] if hasattr(model, "codebook") else ["model.fp16.onnx"]  # which would pick other codes
    assert sorted(file.name for file in tmp_path.glob("enhancer/*.onnx")) == [*halves, "model.onnx"]


@pytest.mark.parametrize("kind", SUPER_RESOLVERS)
def test_every_kind_of_super_resolver_gives_the_same_as_onnx(kind, tmp_path):
    torch.manual_seed(0)
    model = SuperResolver(**SUPER_RESOLVERS[kind])
    written("super_resolver", model, tmp_path)
    assert len(list(tmp_path.glob("super_resolver/*.onnx"))) == 2 * len(model.scales)


def with_a_number_of_pythons(self, sample, return_dict=True):
    return FaceEnhancerOutput(sample=sample / len(sample))  # which a trace takes for a constant: one face


def without_a_name_in_onnx(self, sample, return_dict=True):
    return FaceEnhancerOutput(sample=torch.special.bessel_j0(sample))


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (with_a_number_of_pythons, "enhancer/model.onnx: on a real face the result is 0.*leave --onnx out"),
        (without_a_name_in_onnx, "The enhancer, a FaceEnhancer, cannot be exported: "),
    ],
)
def test_a_network_that_does_not_survive_is_refused(bundled, tmp_path, monkeypatch, forward, said):
    pipe = tiny_pipeline(bundled, enhancer=FaceEnhancer(**SMALL), detector=None, super_resolver=None)
    monkeypatch.setattr(FaceEnhancer, "forward", forward)
    with pytest.raises(ValueError, match=said) as raised:
        hub.export(tmp_path / "made", pipe, onnx=True)
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


# Run


@pytest.mark.parametrize("options", [{}, {"upscale": 4, "denoise": 0.5}, {"upscale": 1, "aligned": True}])
def test_the_picture_is_the_same(exported, complete, photo, options):
    expected = complete(photo, **options)
    for variant, limit in ((None, 1), ("fp16", 2)):
        output = loaded(exported, variant=variant)(photo, **options)
        pictures = [np.asarray(one.images[0], np.int16) for one in (output, expected)]
        assert np.abs(pictures[0] - pictures[1]).max() <= limit
        (face,), (like) = output.faces[0], expected.faces[0][0]
        assert face.left_alone == like.left_alone and face.box == pytest.approx(like.box, abs=0.1)
        assert face.identity_distance == pytest.approx(like.identity_distance, abs=0.01)


def test_a_component_that_is_passed_stays_torchs(exported, photo):
    torch.manual_seed(0)
    own = SuperResolver(num_feat=4, num_conv=1)
    pipe = loaded(exported, super_resolver=own, recognizer=None)
    assert pipe.super_resolver is own and pipe.recognizer is None
    assert pipe(photo).images[0].size == (320, 320)


def test_the_dial_goes_with_the_enhancer(tmp_path):
    model = tiny_codeformer()
    written("enhancer", model, tmp_path)
    stand_in, faces = load_network(tmp_path, "enhancer", "fp16"), torch.rand(1, 3, 64, 64)
    usual, *turned = (enhance(stand_in, faces, fidelity) for fidelity in (None, 0.5, 0.0, 1.0))
    assert torch.equal(usual, turned[0]) and not torch.allclose(turned[1], turned[2])
    with torch.no_grad():
        torch.testing.assert_close(turned[2], enhance(model, faces, 1.0), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="fidelity must lie in"):
        stand_in(faces, fidelity=2)


def test_what_onnx_cannot_do_is_refused_in_one_line(exported, tmp_path):
    pipe = loaded(exported).to("cpu").to(torch.float32)
    for attempt, said in (
        (lambda: pipe.to("cuda"), "computes on the CPU and takes float32; got cuda"),
        (lambda: pipe.to(torch.float16), "got torch.float16"),
        (lambda: pipe.enhancer.train(), "cannot be trained"),
        (lambda: pipe.enhancer.compile(), "is compiled already"),
        (lambda: pipe.enhancer(torch.zeros(1, 3, 32, 32)), "expects \\[B, 3, 64, 64\\]"),
        (lambda: pipe.super_resolver(torch.zeros(1, 3, 8, 8), scale=1), "upscales by 2 or 4; got 1"),
        (lambda: pipe.save_pretrained(tmp_path / "saved"), "cannot be saved"),
        (lambda: hub.export(tmp_path / "saved", pipe), "cannot be saved"),
        (lambda: loaded(exported, dtype=torch.float16), "takes and gives float32; got torch.float16"),
        (lambda: loaded(exported, variant="fp8"), "None and \"fp16\"; got 'fp8'"),
        (lambda: loaded(exported, device_map="balanced"), "has no option device_map"),
        (lambda: FaceEnhancePipeline.from_pretrained(exported, backend="tensorrt"), "one of torch, onnx; got"),
    ):
        with pytest.raises(ValueError, match=said) as raised:
            attempt()
        assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_folders_without_usable_files_are_refused_in_one_line(exported, model, tmp_path, monkeypatch):
    (tmp_path / "part").mkdir()
    for path in exported.glob("*/*"):
        (tmp_path / "part" / path.parent.name).mkdir(exist_ok=True)
        if path.suffix != ".safetensors":
            (tmp_path / "part" / path.parent.name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "part" / "parser" / "model.onnx").unlink()
    (tmp_path / "part" / "parser" / "model.fp16.onnx").write_bytes(b"nothing")
    for attempt, said in (
        (lambda: loaded(None), "The bundled pipeline has no ONNX files. .* hf-faceenh export DIR --onnx"),
        (lambda: loaded(model), f"{model} has no ONNX files"),
        (lambda: loaded(tmp_path / "part"), "holds no parser/model.onnx"),
        (lambda: loaded(tmp_path / "part", variant="fp16"), "onnxruntime cannot load .*parser/model.fp16.onnx"),
    ):
        with pytest.raises(OSError, match=said) as raised:
            attempt()
        assert "\n" not in str(raised.value)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    for attempt in (lambda: loaded(exported), lambda: hub.export(tmp_path / "new", None, onnx=True)):
        with pytest.raises(OSError, match=r'no onnxruntime, .* pip install "hf-faceenh\[onnx\]"'):
            attempt()


def test_on_the_command_line(exported, complete, photo, tmp_path, capsys):
    photo.save(tmp_path / "old.png")
    arguments = ["enhance", str(tmp_path / "old.png"), "--model", str(exported), "--backend", "onnx"]
    assert main([*arguments, "-o", str(tmp_path / "new.png")]) == 0
    new = np.asarray(Image.open(tmp_path / "new.png"), np.int16)
    assert np.abs(new - np.asarray(complete(photo).images[0], np.int16)).max() <= 1
    capsys.readouterr()
    for options, said in (
        (["--device", "cuda"], "computes on the CPU. Leave out --device cuda"),
        (["--dtype", "bfloat16"], "Leave out --dtype bfloat16"),
        (["--model", "fast"], "fast has no ONNX files"),
        (["--model", "gfpgan-1.4"], "gfpgan-1.4 has no ONNX files"),
    ):
        assert main([*arguments, "-o", str(tmp_path / "other.png"), *options]) == 1
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1, err


def test_a_run_over_a_collection_knows_its_weights(exported):
    sums = [checksum(loaded(exported, variant=variant)) for variant in (None, None, "fp16")]
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.slow
def test_the_bundled_pipeline_in_processes_of_its_own(bundled, astronaut, tmp_path):
    def command(*arguments):
        words = [sys.executable, "-m", "hf_faceenh", *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        result = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert command("export", "made", "--onnx").startswith(str(tmp_path / "made"))
    said = command("enhance", astronaut, "-o", "new.png", "--model", "made", "--backend", "onnx", "--json")
    (face,) = json.loads(said)["faces"]
    assert face["left_alone"] is None
    new, expected = np.asarray(Image.open(tmp_path / "new.png"), np.int16), bundled(astronaut).images[0]
    assert np.abs(new - np.asarray(expected, np.int16)).max() <= 1
