import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from hf_faceenh.learning.evaluation import Evaluation, markdown, measuring, results_of, save_results
from hf_faceenh.learning.sheets import HEADER


@pytest.fixture
def evaluation(monkeypatch, tmp_path):
    """Of two faces at one level, by no model; the metrics of the second face are not finite."""
    monkeypatch.setattr(
        measuring, "face_metrics", lambda *_, **__: {"psnr": [30.0, math.inf], "landmarks": [0.1, math.nan]}
    )
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    done = Evaluation({}, 8, dict.fromkeys(("recognizer", "backbone", "detector")), None, {})
    done.sheet = done.level("weak", [tmp_path / "a.png", tmp_path / "b.png"], tmp_path, 2)
    return done


def test_what_is_not_a_number_is_null_and_left_out_of_the_means(evaluation, tmp_path):
    device = SimpleNamespace(type="cpu")
    found = results_of(evaluation, {"weak": [tmp_path / "a.png", tmp_path / "b.png"]}, device, 2, {}, {})
    (tmp_path / "out").mkdir()
    save_results(found, tmp_path / "out")
    read = json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=pytest.fail)
    (row,) = read["rows"]
    assert row["by_face"]["b.png"] == {"psnr": None, "landmarks": None}
    assert row["metrics"]["psnr"]["mean"] == 30 and row["metrics"]["psnr"]["missing"] == 1
    assert (tmp_path / "out" / "results.md").read_text() == markdown(found) + "\n"
    assert not list((tmp_path / "out").glob(".*.part"))


def test_a_sheet_has_a_column_for_the_input_and_one_for_the_sharp_faces(evaluation):
    assert evaluation.sheet.shape == (HEADER + 2 * 8, 2 * 8, 3)
