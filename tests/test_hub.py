"""Model repositories: written, served, pushed to a Hub and loaded from it. The Hub is fake_hub.py's."""

import base64
import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_hub import TOKEN, FakeHub
from huggingface_hub import ModelCard
from measured import results_of
from PIL import Image
from tiny import tiny_enhancer, tiny_pipeline
from transformers import AutoModel, AutoModelForSemanticSegmentation

from hf_faceenh import FaceEnhancePipeline, FaceEnhancer, SuperResolver, hub
from hf_faceenh.cli import main
from hf_faceenh.loading import load_pipeline

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    """A repository in small shards."""
    return hub.export(tmp_path_factory.mktemp("hub") / "tiny-faces", tiny, max_shard_size="100KB")


@pytest.fixture(scope="module")
def photo(astronaut):
    return Image.open(astronaut).convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)


def weights(model):
    return torch.cat([tensor.flatten().float() for _, tensor in sorted(model.state_dict().items())])


def total(model):
    return pytest.approx(sum(float(p.detach().double().abs().sum()) for p in model.parameters()), rel=1e-9)


# Written


def test_a_repository_is_complete(exported):
    names = {path.name for path in exported.iterdir()}
    assert names == {
        ".gitattributes", "LICENSE", "README.md", "THIRD_PARTY_NOTICES.md", "config.json", "detector", "enhancer",
        "examples", "handler.py", "image_processor", "model_index.json", "parser", "pipeline.py", "requirements.txt",
        "super_resolver",
    }  # fmt: skip
    assert "*.safetensors filter=lfs" in (exported / ".gitattributes").read_text()
    assert "Apache License" in (exported / "LICENSE").read_text()
    assert "CenterFace" in (exported / "THIRD_PARTY_NOTICES.md").read_text()
    before, after = (Image.open(exported / "examples" / f"astronaut{end}.jpg") for end in ("", "_enhanced"))
    assert after.size == (2 * before.width, 2 * before.height)
    for file in exported.rglob("*"):
        if file.suffix in (".json", ".md", ".py", ".txt"):
            text = file.read_text()
            assert str(ROOT) not in text and str(exported.parent) not in text, file


def test_big_weights_lie_in_shards_and_halves(exported, tiny):
    files = {path.name for path in (exported / "detector").glob("*.safetensors")}
    assert len([name for name in files if name.startswith("diffusion_pytorch_model-")]) > 1
    assert len([name for name in files if name.startswith("diffusion_pytorch_model.fp16-")]) > 1
    for variant in (None, "fp16"):
        loaded = FaceEnhancePipeline.from_pretrained(exported, variant=variant)
        for name in ("detector", "enhancer", "parser", "super_resolver"):
            model, original = getattr(loaded, name), getattr(tiny, name)
            assert model.dtype == torch.float32
            tolerance = 0 if variant is None else 1e-3
            torch.testing.assert_close(weights(model), weights(original), rtol=tolerance, atol=tolerance)


def test_components_load_on_their_own(exported, tiny):
    parser = AutoModelForSemanticSegmentation.from_pretrained(exported / "parser")
    assert torch.equal(weights(parser), weights(tiny.parser))
    assert type(AutoModel.from_pretrained(exported, subfolder="parser")).__name__ == "SegformerModel"
    enhancer = FaceEnhancer.from_pretrained(exported, subfolder="enhancer")
    assert torch.equal(weights(enhancer), weights(tiny.enhancer))


def test_the_command_line_takes_it_for_a_pipeline(exported):
    assert load_pipeline(str(exported), "cpu").enhancer.config.sample_size == 256


def test_a_pipeline_in_half_precision_stays_as_it_is(bundled, tmp_path):
    pipe = tiny_pipeline(bundled, enhancer=tiny_enhancer(16).half(), detector=None, super_resolver=None)
    folder = hub.export(tmp_path / "made", pipe)
    assert pipe.enhancer.dtype == torch.float16
    assert FaceEnhancer.from_pretrained(folder, subfolder="enhancer").dtype == torch.float32
    assert not (folder / "examples").exists() and "examples/" not in (folder / "README.md").read_text()


def test_whole_or_not_at_all(tiny, tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SuperResolver, "save_pretrained", full_disk)
        with pytest.raises(OSError, match="No space left"):
            hub.export(tmp_path / "made", tiny)
        assert not list(tmp_path.iterdir())
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        hub.export(tmp_path / "made", tiny)
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "note.txt"]


# Served


@pytest.fixture(scope="module")
def endpoint(exported):
    """Answers a request as Inference Endpoints do: status, and picture or message."""
    spec = importlib.util.spec_from_file_location("handler", exported / "handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler = module.EndpointHandler(str(exported))

    def request(body, kind="application/json", query=None):
        try:
            if kind == "application/json":
                data = json.loads(body)
            else:
                data = {"inputs": Image.open(io.BytesIO(body)).convert("RGB")}
            if query and "parameters" not in data:
                data["parameters"] = query
            buffer = io.BytesIO()
            handler(data).save(buffer, format="PNG")
        except Exception as error:
            return 400, str(error)
        return 200, Image.open(buffer)

    return request


def encoded(picture, format="PNG"):
    buffer = io.BytesIO()
    picture.save(buffer, format=format)
    return buffer.getvalue()


def as_json(inputs, **parameters):
    if isinstance(inputs, bytes):
        inputs = base64.b64encode(inputs).decode()
    return json.dumps({"inputs": inputs, "parameters": parameters})


def test_endpoint_takes_base64_and_raw_bytes(endpoint, photo, tiny):
    expected = np.asarray(tiny(photo).images[0], np.int16)
    content = encoded(photo)
    wrapped = base64.encodebytes(content).decode()  # in lines of 76 letters
    url = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    for body, kind in ((as_json(content), "application/json"), (content, "image/png")):
        status, picture = endpoint(body, kind)
        assert status == 200 and np.abs(np.asarray(picture, np.int16) - expected).max() <= 1
    crop = {"aligned": True, "upscale": 1}  # without a search for faces it is quick
    pictures = [endpoint(as_json(inputs, **crop))[1] for inputs in (content, wrapped, url)]
    assert pictures[0].size == (256, 256) and pictures[0] == pictures[1] == pictures[2]
    assert endpoint(as_json(encoded(photo.convert("CMYK"), "TIFF"), **crop))[1].mode == "RGB"
    weaker = endpoint(as_json(content, **crop, strength=0.5, max_faces=None))[1]
    assert weaker == endpoint(content, "image/png", crop | {"strength": "0.5"})[1] != pictures[0]


def test_endpoint_refuses_in_one_line(endpoint, photo, exported):
    content = encoded(photo)
    large = encoded(Image.new("L", (4000, 3000)))
    for body, message in (
        (json.dumps({"parameters": {}}), "inputs must be a picture"),
        (as_json({"image": "x"}), "got dict"),
        (as_json(str(exported / "examples" / "astronaut.jpg")), "not base64"),
        (as_json("http://127.0.0.1/photo.jpg"), "not base64"),
        (as_json(b"no picture"), "picture"),
        (as_json(content[:300]), "picture"),
        (as_json(content, scale=2), "There is no parameter scale"),
        (as_json(content, upscale=3), "upscale must be 1, 2 or 4"),
        (as_json(content, upscale=2.5), "upscale must be a whole number"),
        (as_json(content, strength="much"), "strength must be a number"),
        (as_json(content, strength=True), "strength must be a number"),
        (as_json(content, aligned=1), "aligned must be true or false"),
        (as_json(large, upscale=4), "at most 100 are served"),
        (json.dumps({"inputs": "", "parameters": [1]}), "must be a JSON object"),
    ):
        status, answer = endpoint(body)
        assert status == 400 and message in answer and "\n" not in answer, answer
    assert endpoint(as_json(content))[0] == 200


# On the Hub


@pytest.fixture(scope="module")
def fake_hub():
    fake = FakeHub()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def python(fake_hub, tmp_path_factory):
    """Runs a program in a process of its own that knows only the fake Hub; its output's last line, from JSON."""
    home = tmp_path_factory.mktemp("home")

    def python(program, *arguments, **environment):
        ours = {"HF_ENDPOINT": fake_hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
        ours |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
        environment = {**os.environ, **ours, **environment}
        command = [sys.executable, "-c", program, *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    return python


PUSH = """
import json, sys
from hf_faceenh.cli import main
tiny, scratch, sharded, enhancer, results = sys.argv[1:]
options = ["--results", results, "--push", "org/faces", "--private"]
status = main(["export", f"{scratch}/faces", "--model", tiny, *options])
from hf_faceenh import hub
first = hub.push(f"{scratch}/faces", "org/faces")
second = hub.push(sharded, "org/faces", revision="v2")
rows = json.load(open(results))["rows"]
trained = hub.push_enhancer(enhancer, "trained", rows, datasets=[scratch])
refused = []
for arguments, options in (((sharded, "org/other"), {"token": "hf_wrong"}), ((sharded, "a/b/c"), {}),
                           ((scratch, "org/x"), {}), ((sharded, "nameless"), {"token": "hf_wrong"})):
    try:
        hub.push(*arguments, **options)
    except (ValueError, OSError) as error:
        refused.append(str(error))
print(json.dumps([status, first, second, trained, refused]))
"""


@pytest.fixture(scope="module")
def pushed(python, fake_hub, tiny, exported, tmp_path_factory):
    """org/faces: main in single files, v2 in shards; me/trained. Also what the pushing program said."""
    folder = tmp_path_factory.mktemp("pushed")
    tiny.save_pretrained(folder / "tiny")
    tiny.enhancer.save_pretrained(folder / "trained")
    (folder / "results.json").write_text(json.dumps(results_of(tiny.enhancer)))
    arguments = (folder / "tiny", folder, exported, folder / "trained", folder / "results.json")
    return folder, python(PUSH, *arguments)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_push(pushed, fake_hub, exported):
    folder, (status, first, second, trained, refused) = pushed
    assert status == 0 and fake_hub.private == {"org/faces"}
    assert fake_hub.files("org/faces") == contents(folder / "faces")
    assert fake_hub.files("org/faces", "v2") == contents(exported)  # in shards, and no single files of before
    assert second == f"{fake_hub.url}/org/faces/commit/{fake_hub.branches['org/faces']['v2']}"
    assert first.startswith(fake_hub.url) and "POST /api/validate-yaml" in fake_hub.requests
    unauthorised, name, empty, nameless = refused
    assert "could not be pushed to org/other" in unauthorised and "hf auth login" in unauthorised
    assert "org/other" not in fake_hub.branches and "a/b/c" in name and "holds no pipeline" in empty
    assert "hf auth login" in nameless
    assert not any("\n" in line for line in (unauthorised, empty, nameless))


def test_push_of_a_trained_enhancer(pushed, fake_hub, tiny):
    files = fake_hub.files("me/trained")
    card = ModelCard(files["README.md"].decode())
    assert {result.metric_value for result in card.data.eval_results} == {21.25}
    assert "**Enhancer**: not the package's own" in card.text and str(pushed[0]) not in card.text
    assert 'from_pretrained("trained")' not in card.text and 'from_pretrained("me/trained")' in card.text
    assert json.loads(files["model_index.json"])["enhancer"] == ["enhancer", "FaceEnhancer"]


DETECTOR = "detector/diffusion_pytorch_model.safetensors"
LOAD = """
import json, sys
import torch
from diffusers.utils import logging
from transformers import AutoModel
from hf_faceenh import FaceEnhancePipeline, FaceEnhancer, hub
cache, *steps = sys.argv[1:]
said = {}
def total(model):
    return sum(float(p.detach().double().abs().sum()) for p in model.parameters())
def attempt(name, load):
    try:
        loaded = load()
        said[name] = total(loaded) if isinstance(loaded, torch.nn.Module) else loaded
    except (OSError, ValueError) as error:
        said[name] = f"{type(error).__name__}: {error} ({error.__cause__})"
def pipeline(**options):
    return FaceEnhancePipeline.from_pretrained(options.pop("name", "org/faces"), cache_dir=cache, **options).detector
def onnx():
    pipe = FaceEnhancePipeline.from_pretrained("org/onnx", backend="onnx", cache_dir=cache)
    return [type(pipe.enhancer).__name__, pipe.detector, pipe.parser.config.sample_size]
for step in steps:
    attempt(step, {
        "main": pipeline,
        "revision": lambda: pipeline(revision="v2"),
        "variant": lambda: pipeline(variant="fp16"),
        "no revision": lambda: pipeline(revision="v3"),
        "nobody": lambda: pipeline(name="org/nobody"),
        "missing": lambda: pipeline(name="org/missing"),
        "broken": lambda: pipeline(name="org/broken"),
        "onnx": onnx,
        "enhancer": lambda: FaceEnhancer.from_pretrained("org/faces", subfolder="enhancer", cache_dir=cache),
        "parser": lambda: AutoModel.from_pretrained("org/faces", subfolder="parser", cache_dir=cache),
    }[step])
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def loaded(python, pushed, fake_hub, bundled, tmp_path_factory):
    """What a process said that loaded all of it, the cache that it left, and what it asked the Hub for."""
    folder = tmp_path_factory.mktemp("loaded")
    complete = fake_hub.files("org/faces")
    fake_hub.commit("org/missing", "main", {path: text for path, text in complete.items() if path != DETECTOR})
    fake_hub.commit("org/broken", "main", complete)
    fake_hub.interrupted["org/faces", DETECTOR] = 1
    fake_hub.truncated.add(("org/broken", DETECTOR))
    pipe = tiny_pipeline(bundled, enhancer=tiny_enhancer(16), detector=None, super_resolver=None)
    fake_hub.commit("org/onnx", "main", contents(hub.export(folder / "onnx", pipe, onnx=True)))
    fake_hub.requests.clear()
    steps = ("main", "revision", "variant", "no revision", "nobody", "missing", "broken", "onnx", "enhancer", "parser")
    said = python(LOAD, folder / "cache", *steps)
    fake_hub.truncated.clear()
    return said, folder / "cache", list(fake_hub.requests)


def test_load_from_the_hub_and_then_without_it(python, loaded, fake_hub, tiny):
    said, cache, _ = loaded
    assert fake_hub.interrupted["org/faces", DETECTOR] == 0  # it broke off, and was taken up again
    assert said["main"] == said["revision"] == total(tiny.detector)
    assert said["variant"] == pytest.approx(said["main"], rel=1e-3)
    assert said["enhancer"] == total(tiny.enhancer) and isinstance(said["parser"], float)
    assert "v3" in said["no revision"] and "org/nobody" in said["nobody"]
    # diffusers then takes no weights at all, and names the component that it happens to come to first.
    assert said["missing"].startswith("OSError: Error no file named") and "org--missing" in said["missing"]
    assert "Consistency check failed" in said["broken"]

    fake_hub.requests.clear()
    offline = python(LOAD, cache, "main", "revision", "variant", "broken", HF_HUB_OFFLINE="1")
    assert {name: offline[name] for name in ("main", "revision", "variant")} == {
        name: said[name] for name in ("main", "revision", "variant")
    }
    assert isinstance(offline["broken"], str) and not fake_hub.requests


PLAIN = """
import json, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "hf_faceenh":
            raise ModuleNotFoundError("No module named 'hf_faceenh'", name=name)
sys.meta_path.insert(0, Hidden())
from diffusers import DiffusionPipeline
def load(source, **options):
    try:
        return type(DiffusionPipeline.from_pretrained(source, cache_dir=sys.argv[1], **options)).__name__
    except (ImportError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
said = [load(source, trust_remote_code=True) for source in ("org/faces", sys.argv[2])]
del sys.meta_path[0]
said.append(load("org/faces"))
said += [load(source, trust_remote_code=True) for source in ("org/faces", sys.argv[2])]
print(json.dumps(said))
"""


def test_plain_diffusers_loads_it_for_a_stranger(python, pushed, exported, tmp_path):
    *without, untrusted, hub_name, folder = python(PLAIN, tmp_path, exported)
    needs = "This model needs the package hf-faceenh (No module named 'hf_faceenh'): pip install hf-faceenh"
    assert without == [f"ImportError: {needs}"] * 2
    assert "trust_remote_code=True" in untrusted
    assert hub_name == folder == "FaceEnhancePipeline"


def test_onnx_files_come_without_the_weights(loaded):
    said, _, requests = loaded
    assert said["onnx"] == ["OnnxFaceEnhancer", None, 64]
    wanted = {Path(request).name for request in requests if "org/onnx/resolve/" in request}
    assert wanted == {"model_index.json", "config.json", "preprocessor_config.json", "model.onnx"}


def test_export_refuses_in_one_line(tmp_path, capsys):
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, message in (
        (["made", "--push", "a/b/c"], "a/b/c"),
        (["made", "--model", "gone"], "There is no folder gone"),
        (["made", "--results", str(tmp_path / "results.json")], "not a results.json"),
        (["made", "--results", str(tmp_path / "gone.json")], "gone.json"),
        ([str(tmp_path / "full")], "not an empty folder"),
    ):
        assert main(["export", *arguments]) == 1
        out, err = capsys.readouterr()
        assert not out and message in err and err.count("\n") == 1
