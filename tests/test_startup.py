"""A mistake is answered before torch is imported, and plain enhancing needs nothing of the extras."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
COMMAND = """
import sys
from hf_faceenh.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as exit:
    status = exit.code
assert "torch" not in sys.modules
sys.exit(status)
"""


def python(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)


@pytest.fixture
def files(tmp_path):
    """Pictures, and folders and files that hold no model."""
    for name in ("a.png", "b.png", "sub/a.png", "out/a.png", "out/b.png", "done.png", "done_enhanced.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    (tmp_path / "weights.pth").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"_class_name": "FaceDiscriminator"}')
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    (tmp_path / "results.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("enhance gone.png -o new", 1, "There is no file gone.png"),
        ("enhance gone.png missing.png -o new", 1, "There is no file missing.png"),
        ("enhance a.png -o out", 1, "out/a.png exists already. Pass --overwrite"),
        ("enhance a.png b.png gone.png -o out --save-faces", 1, "out/b.png exists already"),
        ("enhance a.png sub/a.png -o new", 1, "a.png and sub/a.png would both be written to new/a.png"),
        ("enhance a.png b.png -o new.png", 1, "one picture, but there are 2"),
        ("enhance out/a.png out/b.png -o -", 1, "takes one picture, but there are 2"),
        ("enhance a.png -o - --json", 1, "would both go to the standard output"),
        ("enhance a.png -o - --compare", 1, "write files beside the result"),
        ("enhance - -o new", 1, "from the standard input has no name"),
        ("enhance gone.png", 1, "There is no file gone.png"),
        ("enhance done.png", 1, "done_enhanced.png exists already"),
        (
            "enhance a.png b.png -o out --skip-existing",
            0,
            " s, 2 already there, 0 failed",
        ),
        ("enhance done.png --skip-existing", 0, "0 of 1 pictures written to done_enhanced.png in "),
        ("enhance a.png -o out --skip-existing --overwrite", 2, "not allowed with argument --skip-existing"),
        ("enhance notes -o new", 1, "There is no picture in the folder notes: 1 file passed over: 1 .txt."),
        ("enhance a.png -o new.psd", 1, "not written to. Choose .jpg, .png or .webp."),
        ("enhance empty -o new", 1, "There is no picture in the folder empty"),
        ("enhance a.png -o new --fidelty 1", 2, "unrecognized arguments: --fidelty"),
        ("enhance a.png -o new --upscale 3", 2, "argument --upscale"),
        ("enhance a.png -o new --model not/a/folder", 1, "There is no folder not/a/folder"),
        ("enhance a.png -o new --model ./gone", 1, "There is no folder ./gone"),
        ("enhance gone.png -o new --model ./gone", 1, "There is no folder ./gone"),
        ("enhance a.png -o new --model empty", 1, "Could not load empty"),
        ("enhance a.png -o new --model other", 1, "other holds a FaceDiscriminator; expected a pipeline"),
        ("enhance a.png -o new --model damaged", 1, "Could not load damaged"),
        ("enhance a.png -o new --model weights.pth", 1, "hf-faceenh convert weights.pth"),
        ("enhance a.png -o new --device cpu --dtype float16", 1, "does not compute well in float16"),
        ("enhance a.png -o new --backend onnx", 1, "The bundled pipeline has no ONNX files."),
        ("enhance a.png -o new --backend onnx --model fast", 1, "fast has no ONNX files."),
        ("enhance a.png -o new --backend onnx --device cuda", 1, "Leave out --device cuda, or the backend."),
        ("convert gone.pth new", 1, "gone.pth: there is no such file."),
        ("convert empty new", 1, "empty: this is a folder, not a file."),
        ("convert weights.pth out", 1, "out exists already"),
        ("info not/a/folder", 1, "There is no folder not/a/folder"),
        ("info empty", 1, "Could not load empty"),
        ("export out", 1, "out exists already and is not an empty folder"),
        ("export new --model other", 1, "other holds a FaceDiscriminator"),
        ("export new --results gone.json", 1, "gone.json"),
        ("export new --results results.json", 1, "not a results.json"),
        ("export new --push a/b/c", 1, "a/b/c"),
        ("--version", 0, ""),
        ("--help", 0, ""),
    ],
)
def test_a_mistake_is_answered_before_torch_is_imported(files, arguments, status, said):
    result = python("-c", COMMAND, *arguments.split(), cwd=files)
    assert result.returncode == status and "Traceback" not in result.stderr, result.stderr
    assert said in result.stderr and "None" not in result.stderr
    assert not (files / "new").exists()


def test_the_package_is_a_program_too():
    assert python("-m", "hf_faceenh", "--help").stdout.startswith("usage: hf-faceenh ")
    result = python("-m", "hf_faceenh", "enhance", "gone.png", "-o", "new")
    assert result.returncode == 1 and result.stderr.startswith("hf-faceenh: There is no file gone.png.")


WITHOUT = """
import json, sys
extras = "datasets docstring_parser jsonargparse matplotlib onnx onnxruntime pyarrow skimage tensorboard"
sys.modules |= dict.fromkeys(extras.split())  # with None: they cannot be imported
from hf_faceenh.cli import main
import hf_faceenh.hub
from hf_faceenh.batch.__main__ import main as collection
said = [main(["enhance", *sys.argv[1:]]), collection(["--dataset", "in", "--output", "out"])]
print(json.dumps(said))
"""


def test_enhancing_does_without_the_extras(model, astronaut, tmp_path):
    Image.open(astronaut).resize((64, 64)).save(tmp_path / "old.png")
    result = python("-c", WITHOUT, "old.png", "-o", "new.png", "--model", model, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [0, 1] and Image.open(tmp_path / "new.png").size == (128, 128)
    last = result.stderr.splitlines()[-1]
    assert last.startswith("hf-faceenh: There is no ") and 'pip install "hf-faceenh[batch]"' in last
