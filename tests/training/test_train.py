import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hf_faceenh import FaceEnhancer

ROOT = Path(__file__).parents[2]
SMALL = {
    "sample_size": 32,
    "encoder_channels": [[4]] + [[4, 4]] * 3,
    "mapping_channels": [8, 8],
    "constant_channels": 4,
    "decoder_channels": [[4, 4]] * 4,
}


def run(script: str, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "training" / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Six pictures with soft and hard edges, 64×64 px."""
    folder = tmp_path_factory.mktemp("faces")
    y, x = np.mgrid[:64, :64]
    for index in range(6):
        disc = ((x - 32) ** 2 + (y - 28 - index) ** 2 < (10 + 2 * index) ** 2) * 120
        Image.fromarray(np.stack([x * 2 + disc, y * 2 + disc // 2, disc], 2).astype(np.uint8)).save(
            folder / f"{index}.png"
        )
    return folder


def train(faces, output, *arguments):
    small = ("--enhancer", json.dumps(SMALL), "--batch_size", 2, "--log_every", 2, "--schedule", "constant")
    return run("train.py", "--dataset", faces, "--output_dir", output, *small, *arguments)


def test_trains_and_goes_on_as_if_it_had_not_stopped(faces, tmp_path):
    assert train(faces, tmp_path / "straight", "--steps", 4, "--save_every", 2).returncode == 0
    assert train(faces, tmp_path / "stopped", "--steps", 2).returncode == 0
    resumed = train(faces, tmp_path / "stopped", "--steps", 4, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout.splitlines()[-1])["step"] == 4
    weights = [
        load_file(tmp_path / name / "enhancer" / "diffusion_pytorch_model.safetensors")
        for name in ("straight", "stopped")
    ]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=0, rtol=0)
    assert FaceEnhancer.from_pretrained(tmp_path / "stopped" / "enhancer").config.sample_size == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "{empty}", "--output_dir", "{out}"], "no pictures|any (data|supported)|empty"),
        (["--output_dir", "{out}"], "--dataset is needed"),
        (["--dataset", "{empty}", "--output_dir", "{out}", "--perceptual_weight", "1"], "--perceptual_backbone"),
        (["--dataset", "{empty}", "--output_dir", "{out}", "--config", "{empty}/none.yaml"], "--config .*cannot be"),
        (["--dataset", "{empty}", "--output_dir", "{out}", "--coefficients", '{"snow": 1}'], "'snow'"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    names = {"{empty}": str(tmp_path / "empty"), "{out}": str(tmp_path / "out")}
    for placeholder, path in names.items():
        arguments = [argument.replace(placeholder, path) for argument in arguments]
    result = run("train.py", *arguments)
    assert result.returncode != 0 and "Traceback" not in result.stderr
    assert re.search(message, result.stderr.splitlines()[-1])
    assert not (tmp_path / "out").exists()


def test_evaluate_measures_the_input_and_the_model(faces, tmp_path):
    (tmp_path / "lq").mkdir()
    for path in faces.iterdir():
        Image.open(path).resize((16, 16), Image.Resampling.BOX).save(tmp_path / "lq" / path.name)
    FaceEnhancer(**SMALL).save_pretrained(tmp_path / "model")
    arguments = [
        "--hq",
        faces,
        "--lq",
        tmp_path / "lq",
        "--model",
        tmp_path / "model",
        "--output_dir",
        tmp_path / "out",
    ]
    result = run("evaluate.py", *arguments)
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["model"] for row in rows] == ["input", str(tmp_path / "model")]
    assert 15 < rows[0]["psnr"]["mean"] < 40 and rows[0]["psnr"]["interval"][0] <= rows[0]["psnr"]["mean"]
    assert Image.open(tmp_path / "out" / "lq.png").size == (3 * 32, 6 * 32)
    assert "| input | lq |" in result.stdout


def test_evaluate_wants_twins(faces, tmp_path):
    FaceEnhancer(**SMALL).save_pretrained(tmp_path / "model")
    (tmp_path / "lq").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "lq" / "stranger.png")
    result = run("evaluate.py", "--hq", faces, "--lq", tmp_path / "lq", "--model", tmp_path / "model")
    assert result.returncode == 1 and "stranger.png is missing or not a picture" in result.stderr.splitlines()[-1]
