"""The whole of training/evaluate_photographs.py."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_pipeline

from hf_faceenh.learning.sheets import HEADER
from hf_faceenh.models import FaceRecognizer, FaceRecognizerConfig

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "training" / "evaluate_photographs.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def work(tmp_path_factory, astronaut, bundled):
    """photographs/: one with a face, one without; model/, recognizer/: small and untrained, the detector is real."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "photographs").mkdir()
    Image.open(astronaut).convert("RGB").crop((0, 0, 449, 449)).save(folder / "photographs" / "face.png")
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "photographs" / "wall.png")
    tiny_pipeline(bundled).save_pretrained(folder / "model")
    config = FaceRecognizerConfig(embedding_size=8, stem_channels=4, stage_channels=[4], stage_blocks=[1])
    FaceRecognizer(config).save_pretrained(folder / "recognizer")
    return folder


def test_reports_every_face_of_a_folder(script, work, tmp_path, capsys):
    options = ["--model", str(work / "model"), "--recognizer", str(work / "recognizer"), "--output_dir", str(tmp_path)]
    script["main"](["--photographs", str(work / "photographs"), *options])
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["faces"]) == ["face 0"] and list(results["means"]) == ["bicubic", "super-resolver", "pipeline"]
    metrics = results["faces"]["face 0"]
    assert 15 < metrics["bicubic"]["psnr"] < 40 and metrics["bicubic"]["landmarks"] < 0.2
    assert metrics["bicubic"] != metrics["super-resolver"] != metrics["pipeline"]
    difference = results["means"]["pipeline"]["psnr"]["difference"]["mean"]
    assert difference == pytest.approx(metrics["pipeline"]["psnr"] - metrics["bicubic"]["psnr"])
    assert Image.open(tmp_path / "faces" / "face.png").size == (4 * 256, 256 + HEADER)
    harmed = metrics["pipeline"]["identity"] > metrics["bicubic"]["identity"]
    assert (tmp_path / "harmed.png").exists() == harmed
    report = (tmp_path / "results.md").read_text()
    assert report in capsys.readouterr().out and f"1 faces; of {int(harmed)} the identity" in report


def test_degraded_is_a_quarter_as_large_and_the_same_for_the_same_seed(script, work):
    sharp = script["read"](work / "photographs" / "face.png")
    assert sharp.shape == (448, 448, 3)  # cut from 449
    lq, again, other = (script["degraded"](sharp, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert lq.shape == (112, 112, 3) and (lq == again).all() and (lq != other).any()


def test_the_grown_distance_is_that_to_bicubic_upscaling(script):
    face = script["Face"]("", {}, {"bicubic": {"identity": 0.2}, "pipeline": {"identity": 0.25}})
    assert face.grown == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("photographs", "message"),
    [("nowhere", "is not a folder"), ("model", "holds no pictures"), ("walls", "finds no face on the photographs")],
)
def test_a_mistake_is_one_line(script, work, tmp_path, photographs, message):
    (work / "walls").mkdir(exist_ok=True)
    Image.open(work / "photographs" / "wall.png").save(work / "walls" / "wall.png")
    options = ["--model", work / "model", "--recognizer", work / "recognizer", "--output_dir", tmp_path]
    with pytest.raises((ValueError, OSError), match=message) as error:
        script["main"](["--photographs", *map(str, [work / photographs, *options])])
    assert "\n" not in str(error.value)


def test_a_mistake_ends_the_process_with_that_line_and_status_1(work, tmp_path):
    options = ["--model", work / "model", "--recognizer", work / "recognizer", "--output_dir", tmp_path]
    command = [sys.executable, SCRIPT, "--photographs", work / "nowhere", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "is not a folder" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("evaluate_photographs.py: ") and "Traceback" not in done.stderr
