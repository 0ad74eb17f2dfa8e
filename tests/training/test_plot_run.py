"""training/plot_run.py."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "training" / "plot_run.py"


def a_round(number, **changes):
    return {
        **{"round": number, "step": 10 * number + 10, "phase": "reduce" if number < 3 else "tune", "means": None},
        **{"factor": 1.5 + number, "smoothed_factor": 1.5 + number / 2, "direction": (number % 3) - 1, "changed": []},
        **{"coefficients": {"blur": 0.5, "noise": 0.1 * number}, "type_errors": {}, "reduction": None, "seconds": 1.0},
        **{"losses": {"pixel": -0.1 * number, "adversarial": 0.7}, "macs": 10**9 - 10**8 * number},
        **{"validation": {"psnr": 27.0 + number, "input_psnr": 26.0}},
        **changes,
    }


def write(folder, rounds, end=""):
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rounds) + end)


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


def curves(axes):
    """Label → values, of what is drawn as lines."""
    return {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in axes.lines}


def test_all_of_a_run_is_drawn(script, tmp_path):
    rounds = [a_round(number) for number in range(5)]
    rounds[1]["factor"] = None  # a discriminator that said nothing
    rounds[2]["losses"].pop("adversarial")
    write(tmp_path, rounds)
    factor, coefficients, quality, losses = script["draw"](script["read_rounds"](tmp_path / "rounds.jsonl")).axes
    assert curves(factor)["of the round"] == [1.5, 3.5, 4.5, 5.5]
    assert curves(factor)["smoothed"] == [1.5, 2, 2.5, 3, 3.5]
    assert curves(factor)["coefficients raised"] == [2.5] and curves(factor)["coefficients lowered"] == [1.5, 3]
    assert curves(coefficients)["noise"] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    points = [collection.get_offsets().tolist() for collection in quality.collections]
    assert np.concatenate(points) == pytest.approx(np.array([[1 - number / 10, 27 + number] for number in range(5)]))
    assert [len(phase) for phase in points] == [3, 2] and curves(quality)["input"] == [26, 26]
    assert curves(losses)["pixel"] == pytest.approx([0, -0.1, -0.2, -0.3, -0.4])
    assert len(curves(losses)["adversarial"]) == 4


def test_a_run_without_discriminator_and_validation(script, tmp_path):
    fixed = {"factor": None, "smoothed_factor": None, "direction": 0, "validation": None}
    write(tmp_path, [a_round(number, **fixed) for number in range(2)])
    factor, _, size, _ = script["draw"](script["read_rounds"](tmp_path / "rounds.jsonl")).axes
    assert not factor.lines and "fixed" in factor.get_title()
    (macs,) = curves(size).values()
    assert macs == pytest.approx([1, 0.9])


def test_a_picture_is_written_even_of_a_run_that_is_being_written(tmp_path):
    write(tmp_path, [a_round(0), a_round(1)], end='{"round": 2, "ste')
    process = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == str(tmp_path / "run.png")
    with Image.open(tmp_path / "run.png") as picture:
        assert picture.width > 1000 and len(picture.convert("RGB").getcolors(1 << 24)) > 20


def test_the_files_ending_says_its_kind(script, tmp_path):
    write(tmp_path, [a_round(0)])
    script["main"]([str(tmp_path), "--output", str(tmp_path / "new" / "run.svg")])
    assert "<svg" in (tmp_path / "new" / "run.svg").read_text()


@pytest.mark.parametrize(
    ("text", "output", "message"),
    [
        (None, "run.png", "rounds.jsonl is missing"),
        ("", "run.png", "holds no whole round yet"),
        ('{"round": 0}\n', "run.png", "line 1 is not a round of train.py: it lacks factor"),
        ("3\n", "run.png", "line 1 is not a round"),
        ('{"round"\n{"round": 1}\n', "run.png", "line 1 is not JSON"),
        (json.dumps(a_round(0)) + "\n", "run.doc", "expected a file that ends with one of .*png"),
    ],
)
def test_a_mistake_is_one_clear_line(script, tmp_path, text, output, message):
    if text is not None:
        (tmp_path / "rounds.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        script["main"]([str(tmp_path), "--output", str(tmp_path / output)])
