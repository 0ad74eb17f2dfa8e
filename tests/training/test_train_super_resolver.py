import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_faceenh.learning.scripts import parse_options
from hf_faceenh.models.super_resolver import SuperResolver

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "training/train_super_resolver.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture
def photographs(tmp_path):
    """Four smooth, coloured pictures; one that is too small and one that is broken."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8))
        coarse.resize((64, 72), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    coarse.save(folder / "small.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:200])
    return folder


def run(*arguments, home):
    environment = os.environ | {
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], env=environment, capture_output=True, text=True
    )


def test_three_steps(photographs, tmp_path):
    out = tmp_path / "out"
    process = run(
        *("--dataset", photographs, "--output_dir", out, "--steps", 3, "--batch_size", 2, "--input_size", 16),
        *("--num_feat", 4, "--num_block", 1, "--log_every", 1, "--num_workers", 0),
        home=tmp_path / "home",
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert json.loads(lines[0])["steps"] == 3
    assert lines[1] == "4 photographs, 2 skipped"
    assert [line.split()[:2] for line in lines[2:]] == [["step", "1"], ["step", "2"], ["step", "3"]]
    model = SuperResolver.from_pretrained(out / "super_resolver")
    assert model.config.num_feat == 4 and model.scales == (2, 4) and model.config.denoising
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_an_empty_folder_gives_one_line(script, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError) as error:
        script["main"](["--dataset", str(tmp_path / "empty"), "--output_dir", str(tmp_path / "out")])
    assert str(error.value).startswith(f"--dataset {tmp_path / 'empty'}: ") and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_init_goes_on_and_evaluate_prints_a_table(script, photographs, tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    SuperResolver("compact", 2, num_feat=4, num_conv=1).save_pretrained(tmp_path / "first")
    data = ["--dataset", str(photographs)]
    out = tmp_path / "out"
    script["main"](
        [*data, "--output_dir", str(out), "--init", str(tmp_path / "first"), "--steps", "1", "--input_size", "16"]
        + ["--learning_rate", "1e-4", "--num_workers", "0"]
    )
    first, second = (SuperResolver.from_pretrained(folder) for folder in (tmp_path / "first", out / "super_resolver"))
    for before, after in zip(first.parameters(), second.parameters(), strict=True):
        assert not torch.equal(before, after)
        torch.testing.assert_close(before, after, atol=1e-5, rtol=0)
    capsys.readouterr()
    script["main"]([*data, "--evaluate", str(out / "super_resolver")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line[2:].startswith(("clean", "poor"))] == ["clean", "poor"]


@pytest.mark.parametrize(
    ("flags", "expected"), [([], True), (["--anti_ringing"], True), (["--no-anti_ringing"], False)]
)
def test_a_switch_is_given_without_a_value(script, flags, expected):
    lists, switches = ("dataset", "scales"), ("anti_ringing", "denoising")
    options, _ = parse_options(script["Options"], "", ["--dataset", "photographs", *flags], lists, switches=switches)
    assert options.anti_ringing is expected


def test_a_choice_that_is_none_ends_with_one_line(script, capsys):
    with pytest.raises(SystemExit) as exit_:
        script["main"](["--dataset", "photographs", "--scales", "3"])
    assert exit_.value.code == 2 and "scales" in capsys.readouterr().err
