"""training/plot_damage.py."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_faceenh.learning.degradation import TYPES
from hf_faceenh.learning.sheets import HEADER

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "training" / "plot_damage.py"))


def test_a_sheet_has_a_row_for_each_type_and_damage_grows_from_left_to_right(script, tmp_path):
    out = tmp_path / "sheet.png"
    script["main"]([str(ROOT / "examples" / "astronaut.png"), str(out), "--size", "128"])
    sheet = np.asarray(Image.open(out)).astype(float)
    columns = len(script["COEFFICIENTS"])
    assert sheet.shape == (HEADER + 128 * len(TYPES), 128 * columns, 3)
    tiles = sheet[HEADER:].reshape(len(TYPES), 128, columns, 128, 3).swapaxes(1, 2)[:, :, :96]  # without the labels
    damage = np.abs(tiles[:, 1:] - tiles[:, :1]).mean((2, 3, 4))
    assert (damage[:, -1] > damage[:, 0]).all()


def test_what_cannot_be_drawn_is_one_line(script, tmp_path):
    Image.new("RGB", (128, 128)).save(tmp_path / "black.png")
    for arguments, message in (
        (["black.png", "sheet.png"], "no face was found"),
        (["black.png", "sheet.txt"], "must end like a picture"),
    ):
        with pytest.raises(ValueError, match=message):
            script["main"]([str(tmp_path / name) for name in arguments])
