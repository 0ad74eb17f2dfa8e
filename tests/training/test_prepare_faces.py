import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset
from datasets import Image as ImageFeature
from PIL import Image

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "training/prepare_faces.py"
ASTRONAUT = ROOT / "examples/astronaut.png"
LAYOUT = torch.tensor([(192.98, 239.95), (318.90, 240.19), (256.63, 314.02), (201.26, 371.41), (313.09, 371.15)])


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def photographs(tmp_path):
    """The astronaut in a folder below, a broken file, a picture without a face, and a text."""
    folder = tmp_path / "photographs"
    (folder / "train").mkdir(parents=True)
    shutil.copy(ASTRONAUT, folder / "train")
    (folder / "broken.png").write_bytes(ASTRONAUT.read_bytes()[:20_000])
    Image.new("RGB", (96, 64), (90, 120, 80)).save(folder / "meadow.jpg")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_photographs_become_aligned_faces(script, photographs, tmp_path, capsys):
    out = tmp_path / "faces"
    arguments = ["--dataset", photographs, "--output_dir", out, "--size", 128, "--min_source_px", 100]
    script["main"](list(map(str, arguments)))
    printed, errors = capsys.readouterr()
    left_out = "0 faces under 100 px, 1 photographs without a face, 1 unreadable ones"
    assert printed == f"1 faces in {out}; left out: {left_out}\n"
    assert "broken.png" in errors

    (line,) = map(json.loads, (out / "metadata.jsonl").read_text().splitlines())
    assert sorted(path.name for path in out.iterdir()) == sorted([line["file_name"], "metadata.jsonl"])
    assert Path(line["source"]) == photographs / "train/astronaut.png"
    assert line["source_crop_px"] == pytest.approx(160, abs=8)
    assert (torch.tensor(line["landmarks"]) - LAYOUT / 4).abs().max() < 3

    (row,) = load_dataset("imagefolder", data_dir=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert row["image"].size == (128, 128)
    assert row["landmarks"] == line["landmarks"]
    # the pupils, found without a network: the darkest spots of the two squares where the layout has the eyes
    grey = np.asarray(row["image"].convert("L")).astype(int)
    for x, y in (LAYOUT[:2] / 4).round().int().tolist():
        window = grey[y - 10 : y + 11, x - 10 : x + 11]
        assert window[6:15, 6:15].min() == window.min()


def test_small_faces_are_left_out(script, photographs, tmp_path):
    out = tmp_path / "faces"
    with pytest.raises(ValueError) as end:
        script["main"](["--dataset", str(photographs), "--output_dir", str(out)])
    assert str(end.value).startswith(f"0 faces in {out}; left out: 1 faces under 600 px")


def test_nothing_is_overwritten(script, photographs):
    with pytest.raises(ValueError, match="exists already; choose another, or remove it first.$"):
        script["main"](["--dataset", str(photographs), "--output_dir", str(photographs / "train")])
    assert [path.name for path in (photographs / "train").iterdir()] == ["astronaut.png"]


@pytest.mark.parametrize(
    ("folder", "line"),
    [("empty", "is empty or holds no pictures, .*files."), ("missing", "does not exist: give .*Hub.")],
)
def test_no_photographs_is_one_line(script, tmp_path, folder, line):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError) as end:
        script["main"](["--dataset", str(tmp_path / folder), "--output_dir", str(tmp_path / "faces")])
    assert re.fullmatch(f"{re.escape(str(tmp_path / folder))} {line}", str(end.value))
    assert not (tmp_path / "faces").exists()


def test_a_mistake_ends_the_process_with_one_line_and_status_1(photographs):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, SCRIPT, "--dataset", photographs, "--output_dir", photographs]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    line = f"--output_dir {photographs} exists already; choose another, or remove it first."
    assert (process.returncode, process.stderr) == (1, f"prepare_faces.py: {line}\n")


def test_photographs_of_a_dataset_are_undecoded(script, tmp_path):
    picture = ASTRONAUT.read_bytes()
    rows = Dataset.from_dict({"photo": [{"bytes": picture, "path": None}], "year": [1983]})
    rows.cast_column("photo", ImageFeature()).to_parquet(tmp_path / "old.parquet")
    assert list(script["photographs"](str(tmp_path / "old.parquet"))) == [picture]


def test_photographs_in_a_zip_file(script, tmp_path):
    (tmp_path / "zipped").mkdir()
    with zipfile.ZipFile(tmp_path / "zipped" / "all.zip", "w") as archive:
        archive.write(ASTRONAUT, "astronaut.png")
    assert list(script["photographs"](str(tmp_path / "zipped"))) == [ASTRONAUT.read_bytes()]
