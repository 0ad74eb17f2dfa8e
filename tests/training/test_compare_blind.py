"""The pages of a blind comparison, and how its choices are counted."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_enhancer

from hf_faceenh.learning.sheets import HEADER

SCRIPT = Path(__file__).parents[2] / "training" / "compare_blind.py"
SIZE = 64


@pytest.fixture(scope="module")
def compare():
    """`main` of the script, in this process."""
    return runpy.run_path(str(SCRIPT))["main"]


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Two models, of which one makes every face black and one white, and seven grey faces at two levels."""
    folder = tmp_path_factory.mktemp("blind")
    for name, value in (("black", -4.0), ("white", 4.0)):
        model = tiny_enhancer(SIZE)
        model.generating_network.to_rgb.weight.data.zero_()
        model.generating_network.to_rgb.bias.data.fill_(value)
        model.save_pretrained(folder / name)
    for level in ("mild", "severe"):
        (folder / level).mkdir()
        for number in range(7):
            Image.new("RGB", (SIZE, SIZE), (100 + 10 * number,) * 3).save(folder / level / f"{number}.png")
    levels, models = ([str(folder / name) for name in names] for names in (("mild", "severe"), ("black", "white")))
    return ["--lq", *levels, "--model", *models, "--rows", "4", "--size", str(SIZE)]


def rows_of(pages):
    """The grey levels of the middles of degraded face, A and B, row by row."""
    middles = []
    for page in pages:
        pixels = np.asarray(Image.open(page))[HEADER:, :, 0]
        middles.append(pixels[SIZE // 2 :: SIZE, SIZE // 2 :: SIZE])
    return np.concatenate(middles)


def test_pages_show_each_face_once_and_the_models_in_random_order(compare, options, tmp_path, capsys):
    compare([*options, "--faces", "7", "--output_dir", str(tmp_path)])
    pages = sorted(tmp_path.iterdir())
    assert [page.name for page in pages] == ["page_01.png", "page_02.png"]
    rows = rows_of(pages)
    assert sorted(rows[:, 0]) == [100 + 10 * number for number in range(7)]
    assert {tuple(sorted(row[1:])) for row in rows} == {(0, 255)}
    assert (rows[:, 1] == 255).sum() in (3, 4)

    choices = "".join("A" if row[1] == 255 else "B" for row in rows)  # always the white one, but for the last
    compare([*options, "--faces", "7", "--output_dir", str(tmp_path), "--choices", f"{choices[:3]} {choices[3:6]}="])
    black, white = options[options.index("--model") + 1 :][:2]
    assert capsys.readouterr().out.splitlines() == [
        f"| level | {black} | {white} | neither |",
        "| --- | --- | --- | --- |",
        "| mild | 0 | 3 | 1 |",
        "| severe | 0 | 3 | 0 |",
        "| all | 0 | 6 | 1 |",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--faces", "8"], "--faces 8: there are only 7 faces"),
        (["--faces", "0"], "--faces must be at least 1; got 0"),
        (["--faces", "4", "--choices", "ABx="], "--choices must be 4 letters, each A, B or =; got 4: ABX="),
        (["--faces", "4", "--choices", "AB="], "--choices must be 4 letters, each A, B or =; got 3: AB="),
        (["--model", "one"], "--model takes the two models to compare; got 1"),
    ],
)
def test_a_mistake_is_one_clear_line(compare, options, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        compare([*options, "--output_dir", str(tmp_path / "out"), *changes])
    assert not (tmp_path / "out").exists()
