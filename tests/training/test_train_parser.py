import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from labelled_faces import HAIR, SIZE, make_faces
from PIL import Image
from transformers import SegformerForSemanticSegmentation

from hf_faceenh.learning.parsing import LABELS, make_model

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "training" / "train_parser.py"
specification = importlib.util.spec_from_file_location("train_parser", SCRIPT)
train_parser = importlib.util.module_from_spec(specification)
specification.loader.exec_module(train_parser)


def test_three_steps_save_a_parser(tmp_path):
    faces, labels = make_faces(tmp_path, 3)
    (faces / "broken.png").write_bytes(b"not a picture")
    (faces / "unlabelled.png").write_bytes((faces / "0.png").read_bytes())
    command = [sys.executable, SCRIPT, "--dataset", faces, "--labels", labels, "--validation", faces]
    command += ["--validation_labels", labels, "--output_dir", tmp_path / "out", "--steps", "3", "--batch_size", "2"]
    command += ["--sample_size", str(SIZE), "--num_workers", "0", "--log_every", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(map(str, command), capture_output=True, text=True, env=environment, timeout=300)
    assert run.returncode == 0, run.stderr
    configuration, counts, *log = run.stdout.splitlines()
    assert json.loads(configuration)["sample_size"] == SIZE
    assert counts == "3 faces, 2 skipped"
    assert [line.split()[1] for line in log] == ["2", "3"]
    assert all(0 <= float(line.split("mean_iou ")[1].split()[0]) <= 1 for line in log)

    parser = SegformerForSemanticSegmentation.from_pretrained(tmp_path / "out" / "parser", dtype=torch.float32)
    assert tuple(parser.config.id2label[i] for i in range(len(LABELS))) == LABELS
    assert parser.config.sample_size == SIZE
    assert parser.decode_head.batch_norm.num_batches_tracked == 3


def test_evaluate_prints_the_iou_of_every_class(tmp_path, capsys):
    faces, labels = make_faces(tmp_path, 1)
    make_model(SIZE).save_pretrained(tmp_path / "parser")
    arguments = ["--dataset", str(faces), "--labels", str(labels), "--evaluate", str(tmp_path / "parser")]
    train_parser.main(arguments)
    header, _, row = capsys.readouterr().out.splitlines()
    assert header.split(" | ")[1:3] == ["background", "skin"]
    assert len(row.split(" | ")) == 1 + len(LABELS)


def test_several_folders_are_measured_together(tmp_path, capsys):
    """A parser that sees skin everywhere: its IoU on both folders lies between those on each."""
    folders = [make_faces(tmp_path / name, 1) for name in ("a", "b")]
    with Image.open(folders[1][1] / "0.png") as ids:
        Image.fromarray(np.where(np.asarray(ids) == HAIR, 1, ids).astype(np.uint8)).save(folders[1][1] / "0.png")
    model = make_model(SIZE)
    with torch.no_grad():
        model.decode_head.classifier.bias[LABELS.index("skin")] = 1000
    model.save_pretrained(tmp_path / "parser")

    def skin(*chosen):
        faces, labels = zip(*(map(str, folder) for folder in chosen), strict=True)
        train_parser.main(
            ["--dataset", *faces, "--labels", *labels, "--evaluate", str(tmp_path / "parser")],
        )
        header, _, row = capsys.readouterr().out.splitlines()
        return float(row.strip("| ").split(" | ")[1 + LABELS.index("skin")])

    alone, together = [skin(folder) for folder in folders], skin(*folders)
    assert together == pytest.approx(sum(alone) / 2, abs=2e-3) and alone[0] < alone[1] - 0.1


def test_maps_may_have_another_id_for_the_rest_of_the_head(tmp_path, capsys):
    faces, labels = make_faces(tmp_path, 1)
    model = make_model(SIZE)
    with torch.no_grad():
        model.decode_head.classifier.bias[LABELS.index("hair")] = 1000
    model.save_pretrained(tmp_path / "parser")

    def hair(*more):
        paths = ["--dataset", str(faces), "--labels", str(labels), "--evaluate", str(tmp_path / "parser")]
        train_parser.main([*paths, *more])
        row = capsys.readouterr().out.splitlines()[-1]
        return float(row.strip("| ").split(" | ")[1 + LABELS.index("hair")])

    with Image.open(labels / "0.png") as ids:
        Image.fromarray(np.where(np.asarray(ids) == HAIR, 17, ids).astype(np.uint8)).save(labels / "0.png")
    assert hair("--head_id", "17") > 0.2 and hair() == 0


def test_a_parser_that_lacks_regions_goes_on_with_all_of_them(tmp_path):
    faces, labels = make_faces(tmp_path, 1)
    parser = make_model(SIZE)
    parser.config.id2label = dict(enumerate(LABELS[:-1]))
    parser.decode_head.classifier = torch.nn.Conv2d(parser.config.decoder_hidden_size, len(LABELS) - 1, 1)
    parser.save_pretrained(tmp_path / "smaller")
    arguments = ["--dataset", str(faces), "--labels", str(labels), "--init", str(tmp_path / "smaller")]
    arguments += ["--steps", "1", "--batch_size", "2", "--num_workers", "0", "--output_dir", str(tmp_path / "out")]
    train_parser.main(arguments)
    trained = SegformerForSemanticSegmentation.from_pretrained(tmp_path / "out" / "parser")
    assert tuple(trained.config.id2label.values()) == LABELS


def bad_inputs(folder: Path) -> dict[str, tuple[list[str], str]]:
    """What is wrong → (arguments, words of the error)."""
    faces, labels = map(str, make_faces(folder / "good", 1))
    foreign = folder / "foreign"
    foreign.mkdir()
    Image.fromarray(np.full((SIZE, SIZE), 200, np.uint8)).save(foreign / "0.png")
    empty = folder / "empty"
    empty.mkdir()
    return {
        "no such folder": (["--dataset", str(folder / "nowhere"), "--labels", labels], "neither a folder"),
        "no labels": (["--dataset", faces], "--labels"),
        "empty folder": (["--dataset", str(empty), "--labels", labels], "none of its 0 pictures"),
        "other names": (["--dataset", faces, "--labels", str(empty)], "none of its 1 pictures"),
        "foreign ids": (["--dataset", faces, "--labels", str(foreign)], "CelebAMask-HQ"),
        "not a model": (["--dataset", faces, "--labels", labels, "--init", str(empty)], "not a SegFormer"),
        "one folder of labels for two": (["--dataset", faces, faces, "--labels", labels], "one folder for each of"),
        "no such id": (["--dataset", faces, "--labels", labels, "--head_id", "19"], "id from 0 to 18"),
        "sample size": (["--dataset", faces, "--labels", labels, "--sample_size", "100"], "multiple of 16"),
    }


KINDS = (
    *("no such folder", "no labels", "empty folder", "other names", "foreign ids", "not a model"),
    *("one folder of labels for two", "no such id", "sample size"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_one_clear_line(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    arguments, words = bad_inputs(tmp_path)[kind]
    with pytest.raises(ValueError, match=words) as error:
        train_parser.main([*arguments, "--output_dir", str(tmp_path / "out")])
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()
