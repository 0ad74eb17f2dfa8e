"""training/ablate.py, with real trainings of a few steps."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from hf_faceenh.learning.options import TrainingOptions
from hf_faceenh.learning.scripts import parse_options
from hf_faceenh.models import FaceRecognizer, FaceRecognizerConfig

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "training" / "ablate.py"
TINY = {
    **{"rounds": 2, "steps_per_round": 1, "tune_rounds": 1, "batch_size": 2, "num_workers": 0, "dynamic": False},
    **{"loss": {"adversarial_weight": 0}, "reduction": {"target": 1}},
    "enhancer": {
        **{"sample_size": 32, "encoder_channels": [[8], [8, 8], [8, 16], [16, 16]], "mapping_channels": [8, 8]},
        **{"constant_channels": 16, "decoder_channels": [[16, 16], [16, 8], [8, 8], [8, 8]]},
    },
}
METHOD = {
    **{"config": "tiny.yaml", "init": "@whole", "teacher": "@whole", "first_reduction": 1},
    **{
        "reduction.target": 0.9,
        "reduction.rounds": 1,
        "reduction.index_psnr": 100.0,
        "reduction.total_psnr": 100.0,
        "reduction.calibration": 2,
    },
    **{"reduction.index_features": 100.0},
}
TABLES = {
    "reduction": {
        "method": METHOD,
        "from nothing": {"config": "tiny.yaml", "init": None, "enhancer": "@method.config"},
    },
    "unused": {"whole": {"config": "tiny.yaml"}},
}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    rng = np.random.default_rng(0)
    for name, side, number in (("faces", 64, 4), ("others", 64, 2), ("weak", 24, 2)):
        (folder / name).mkdir()
        for index in range(number):
            coarse = Image.fromarray(rng.integers(60, 190, (6, 6, 3), dtype=np.uint8))
            coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / name / f"{index}.png")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    (folder / "variants.yaml").write_text(yaml.safe_dump(TABLES, sort_keys=False))
    config = FaceRecognizerConfig(image_size=40, stem_channels=4, stage_channels=[4, 8], stage_blocks=[1, 1])
    FaceRecognizer(config).save_pretrained(folder / "recognizer")
    arguments = ["--dataset", folder / "faces", "--hq", folder / "others", "--lq", folder / "weak"]
    arguments += ["--recognizer", folder / "recognizer", "--variants", folder / "variants.yaml"]
    return [sys.executable, SCRIPT, *arguments, "--output_dir", folder / "out", "--only", "reduction"], folder


def run(command):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_rows_are_trained_once_and_compared_with_the_first(command):
    command, folder = command
    process = run(command)
    assert process.returncode == 0, process.stderr
    out = folder / "out"
    arguments = [
        json.loads((out / name / "enhancer" / "config.json").read_text()) for name in ("method", "from_nothing")
    ]
    assert arguments[0]["encoder_channels"] == arguments[1]["encoder_channels"]
    whole = json.loads((out / "whole" / "enhancer" / "config.json").read_text())
    assert whole["encoder_channels"] == TINY["enhancer"]["encoder_channels"]  # trained because "method" needs it
    assert whole != arguments[0]
    lines = [line for line in process.stdout.splitlines() if line.startswith("| weak")]
    assert [line.split(" | ")[1] for line in lines] == ["input", "method", "from nothing"]
    assert ["(" in line for line in lines] == [False, False, True]
    assert (out / "tables.md").read_text() in process.stdout

    weights = [path.stat().st_mtime for path in sorted(out.glob("*/enhancer/*.safetensors"))]
    again = run(command)
    assert again.returncode == 0 and len(weights) == 3
    assert [path.stat().st_mtime for path in sorted(out.glob("*/enhancer/*.safetensors"))] == weights


def test_an_unknown_table_is_one_line(command):
    process = run([*command[0], "size"])
    assert process.returncode == 1
    assert process.stderr == "ablate.py: --only size: the tables are reduction, unused.\n"


def test_the_real_tables_name_rows_and_settings_that_there_are():
    """Every setting of configs/ablations.yaml is one of train.py's, every "@ROW" a row."""
    as_yaml, configs = runpy.run_path(str(SCRIPT))["as_yaml"], ROOT / "training" / "configs"
    tables = yaml.safe_load((configs / "ablations.yaml").read_text())
    rows = {name: row for table in tables.values() for name, row in table.items()}
    for row in rows.values():
        named = [value[1:].split(".")[0] for value in row.values() if str(value).startswith("@")]
        assert all(name in rows for name in named)
        settings = {name: value for name, value in row.items() if name != "config" and value is not None}
        options = [
            f"--{name}={'{}' if str(value).endswith(('.config', '.coefficients')) else as_yaml(value)}"
            for name, value in settings.items()
        ]
        arguments = ["--config", str(configs / row["config"]), "--dataset", "x", "--output_dir", "y", *options]
        parse_options(TrainingOptions, "", arguments)
