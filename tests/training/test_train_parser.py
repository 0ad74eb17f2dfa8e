import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import SegformerForSemanticSegmentation

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "training" / "train_parser.py"
SIZE = 64
specification = importlib.util.spec_from_file_location("train_parser", SCRIPT)
train_parser = importlib.util.module_from_spec(specification)
specification.loader.exec_module(train_parser)

L_EYE, R_EYE, HAIR = (train_parser.CELEBAMASK_HQ.index(name) for name in ("l_eye", "r_eye", "hair"))


def make_faces(folder: Path, count: int) -> tuple[Path, Path]:
    """Grey heads with a green left eye and a red right one, at different places, and their label maps."""
    faces, labels = folder / "faces", folder / "labels"
    faces.mkdir(parents=True)
    labels.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        picture = rng.integers(0, 40, (SIZE, SIZE, 3), dtype=np.uint8)
        ids = np.full((SIZE, SIZE), HAIR, np.uint8)
        picture[8:56, 12:52], ids[8:56, 12:52] = 150, 1
        y = rng.integers(20, 32)
        picture[y : y + 8, 18:28], ids[y : y + 8, 18:28] = (250, 0, 0), R_EYE
        picture[y : y + 8, 36:46], ids[y : y + 8, 36:46] = (0, 250, 0), L_EYE
        Image.fromarray(picture).save(faces / f"{i}.png")
        Image.fromarray(ids).save(labels / f"{i}.png")
    return faces, labels


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
    assert tuple(parser.config.id2label[i] for i in range(10)) == train_parser.LABELS
    assert parser.config.sample_size == SIZE
    assert parser.decode_head.batch_norm.num_batches_tracked == 3


def test_evaluate_prints_the_iou_of_every_class(tmp_path, capsys):
    faces, labels = make_faces(tmp_path, 1)
    train_parser.make_model(SIZE).save_pretrained(tmp_path / "parser")
    arguments = ["--dataset", str(faces), "--labels", str(labels), "--evaluate", str(tmp_path / "parser")]
    train_parser.main(arguments)
    header, _, row = capsys.readouterr().out.splitlines()
    assert header.split(" | ")[1:3] == ["background", "skin"]
    assert len(row.split(" | ")) == 11


def test_a_perfect_parser_has_iou_1(tmp_path):
    faces = train_parser.Faces(*map(str, make_faces(tmp_path, 2)), "train", 2 * SIZE)

    class Perfect(torch.nn.Module):
        config = train_parser.make_model(SIZE).config
        device = torch.device("cpu")

        def forward(self, pixel_values):
            mean, std = (
                torch.tensor(values).view(3, 1, 1)
                for values in (train_parser.IMAGENET_DEFAULT_MEAN, train_parser.IMAGENET_DEFAULT_STD)
            )
            red, green, _ = (pixel_values[0] * std + mean).unbind()
            logits = torch.zeros(1, len(train_parser.LABELS), *red.shape)
            logits[0, 0] = 0.8  # a head is brighter: 2 × 150 / 255
            logits[0, 1] = red + green
            logits[0, train_parser.LABELS.index("l_eye")] = 10 * (green - red - 0.5)
            logits[0, train_parser.LABELS.index("r_eye")] = 10 * (red - green - 0.5)
            return type("Output", (), {"logits": logits})

    per_class, mean = train_parser.evaluate(Perfect(), faces)
    assert mean == 1
    assert per_class.isnan().sum() == 6


def test_samples_keep_labels_on_the_picture_and_swap_sides_when_mirrored(tmp_path, monkeypatch):
    monkeypatch.setattr(train_parser, "POOR_SHARE", 0)
    monkeypatch.setattr(train_parser, "GREY_SHARE", 0)
    monkeypatch.setattr(train_parser, "COVERED_SHARE", 0)
    faces = train_parser.Faces(*map(str, make_faces(tmp_path, 1)), "train", 2 * SIZE)
    samples = train_parser.Samples(faces, 12, SIZE, seed=0)
    seen = set()
    for i in range(len(samples)):
        picture, _, ids = samples[i]
        pixel_values = train_parser.to_pixel_values(picture.numpy())
        red, green, _ = F.avg_pool2d(pixel_values, 2)
        left, right = (ids == train_parser.LABELS.index(name) for name in ("l_eye", "r_eye"))
        assert left.nonzero()[:, 1].float().mean() > right.nonzero()[:, 1].float().mean()
        mirrored = (red - green)[left].mean() > 0
        greener, redder = (right, left) if mirrored else (left, right)
        assert ((green - red)[greener] > 0.5).float().mean() > 0.8
        assert ((red - green)[redder] > 0.5).float().mean() > 0.8
        seen.add(bool(mirrored))
    assert seen == {True, False}


def test_samples_are_reproducible(tmp_path):
    faces = train_parser.Faces(*map(str, make_faces(tmp_path, 2)), "train", 2 * SIZE)
    first, again = (train_parser.Samples(faces, 4, SIZE, seed=3) for _ in range(2))
    assert all(torch.equal(first[i][0], again[i][0]) and torch.equal(first[i][2], again[i][2]) for i in range(4))
    assert [first[i][1] for i in range(4)] == [again[i][1] for i in range(4)]
    assert not torch.equal(first[0][0], train_parser.Samples(faces, 4, SIZE, seed=4)[0][0])


def test_a_cover_hides_little_and_changes_no_label(tmp_path, monkeypatch):
    faces = train_parser.Faces(*map(str, make_faces(tmp_path, 1)), "train", 2 * SIZE)
    for name in ("POOR_SHARE", "GREY_SHARE"):
        monkeypatch.setattr(train_parser, name, 0)
    monkeypatch.setattr(train_parser, "COVERED_SHARE", 0)
    bare = train_parser.Samples(faces, 40, SIZE, seed=0)
    bare = [bare[i] for i in range(40)]
    monkeypatch.setattr(train_parser, "COVERED_SHARE", 1)
    covered = train_parser.Samples(faces, 40, SIZE, seed=0)
    covered = [covered[i] for i in range(40)]
    changed = [float((a[0] != b[0]).any(dim=2).float().mean()) for a, b in zip(bare, covered, strict=True)]
    assert 0.01 < np.mean(changed) < 0.3 and max(changed) < 0.7
    assert all(torch.equal(a[2], b[2]) for a, b in zip(bare, covered, strict=True))


def test_only_poor_faces_go_through_the_enhancer():
    """An enhancer that makes everything white."""
    enhancer = torch.nn.Module()
    enhancer.forward = lambda faces, return_dict: (torch.ones_like(faces),)
    enhancer.config, enhancer.device = SimpleNamespace(sample_size=32), torch.device("cpu")
    pictures = [np.full((SIZE, SIZE, 3), 100, np.uint8)] * 2
    white = train_parser.to_pixel_values(np.full((SIZE, SIZE, 3), 255, np.uint8))
    plain, enhanced = train_parser.parser_inputs(pictures, [False, True], SIZE, enhancer)
    assert torch.equal(enhanced, white) and torch.equal(plain, train_parser.to_pixel_values(pictures[0]))
    assert torch.equal(train_parser.parser_inputs(pictures, [True, True], SIZE)[1], plain)


def test_regions_are_mapped_by_name():
    table = train_parser.to_label_ids()
    names = {name: train_parser.LABELS[table[i]] for i, name in enumerate(train_parser.CELEBAMASK_HQ)}
    assert {name for name, ours in names.items() if name == ours} == set(train_parser.LABELS)
    assert names["eye_g"] == "skin"
    assert names["hair"] == names["l_ear"] == names["cloth"] == "background"


def test_loss_falls_to_zero_for_the_truth_and_counts_small_parts():
    ids = torch.zeros(1, 16, 16, dtype=torch.int64)
    ids[0, 4:6, 4:6] = 3
    weights = train_parser.class_weights(np.bincount(ids.flatten(), minlength=10))
    truth = F.one_hot(ids, 10).permute(0, 3, 1, 2) * 50.0
    background = F.one_hot(torch.zeros_like(ids), 10).permute(0, 3, 1, 2) * 4.0
    assert train_parser.parsing_loss(truth, ids, weights) < 1e-3
    assert train_parser.parsing_loss(background, ids, weights) > 0.5
    assert weights[3] / weights[0] == pytest.approx((252 / 4) ** 0.5)


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
        "sample size": (["--dataset", faces, "--labels", labels, "--sample_size", "100"], "multiple of 16"),
    }


KINDS = ("no such folder", "no labels", "empty folder", "other names", "foreign ids", "not a model", "sample size")


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_one_clear_line(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    arguments, words = bad_inputs(tmp_path)[kind]
    with pytest.raises(SystemExit) as error:
        train_parser.main([*arguments, "--output_dir", str(tmp_path / "out")])
    line = capsys.readouterr().err.splitlines()[-1] if error.value.code == 2 else error.value.code
    assert words in line
    assert len(line.splitlines()) == 1
    assert not (tmp_path / "out").exists()
