import json
import math

import numpy as np
import pytest
from PIL import Image

from hf_faceenh.files import strict_json
from hf_faceenh.learning.records import Records, summary


def line(number, **values):
    return {"round": number, "psnr": 30.0 + number, **values}


def numbers(folder):
    return [json.loads(text)["round"] for text in (folder / "rounds.jsonl").read_text().splitlines()]


def test_lines_are_strict_json(tmp_path):
    records = Records(tmp_path)
    records.add(line(0, losses={"r1": math.nan}, trials=({"psnr": -math.inf},), factor=None, changed=["blur"]))
    records.write()

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    (text,) = (tmp_path / "rounds.jsonl").read_text().splitlines()
    written = json.loads(text, parse_constant=refuse)
    assert written["losses"] == {"r1": None} and written["trials"] == [{"psnr": None}] and written["psnr"] == 30.0
    plain = {"steps": 3, "name": "blur", "due": True}
    assert json.loads(strict_json(plain)) == plain


def test_a_line_that_could_not_be_written_comes_with_the_next(tmp_path):
    (tmp_path / "run").write_text("a file in the folder's place")
    records = Records(tmp_path / "run")
    records.add(line(0))
    with pytest.raises(OSError):
        records.write()
    (tmp_path / "run").unlink()
    (tmp_path / "run").mkdir()
    records.add(line(1))
    records.write()
    assert numbers(tmp_path / "run") == [0, 1] and records.pending == []


def test_a_resume_takes_out_later_rounds_and_a_cut_line(tmp_path):
    text = "".join(json.dumps(line(number)) + "\n" for number in range(4)) + '{"round": 4, "ps'
    (tmp_path / "rounds.jsonl").write_text(text)
    records = Records(tmp_path)
    records.restore(3, [])
    assert numbers(tmp_path) == [0, 1, 2]
    records.add(line(3, again=True))
    records.write()
    assert numbers(tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize("written", [1, 2, 3])
def test_a_resume_neither_loses_nor_doubles_the_lines_that_its_checkpoint_has(tmp_path, written):
    """The run ended between checkpoint and records, or after both."""
    (tmp_path / "rounds.jsonl").write_text("".join(json.dumps(line(number)) + "\n" for number in range(written)))
    records = Records(tmp_path)
    records.restore(3, [line(1), line(2)])
    assert numbers(tmp_path) == [0, 1, 2] and records.pending == []


def test_before_the_first_round_there_is_nothing_to_restore(tmp_path):
    Records(tmp_path).restore(0, [])
    assert not list(tmp_path.iterdir())


def test_the_sheet_has_a_column_for_each_kind(tmp_path):
    columns = [[np.full((8, 8, 3), value, np.uint8)] * 3 for value in (10, 20)]
    Records(tmp_path).save_sheet(7, columns)
    with Image.open(tmp_path / "samples" / "round_0007.png") as sheet:
        assert sheet.size == (16, 24) and sheet.getpixel((0, 23)) == (10,) * 3 and sheet.getpixel((15, 0)) == (20,) * 3
    assert len(list((tmp_path / "samples").iterdir())) == 1


def test_a_round_is_one_line_on_the_screen():
    full = {
        **{"round": 3, "phase": "reduce", "factor": 2.5, "smoothed_factor": 2.25, "direction": 1, "changed": ["blur"]},
        **{"reduction": {"layers": [{"kept": 0.5}, {"kept": 0.0}]}, "macs": 2_500_000_000, "losses": {"pixel": -0.1}},
        **{"validation": {"psnr": 31.257, "input_psnr": 30.0}},
    }
    assert summary(full) == (
        "round 3 (reduce), factor 2.25: coefficients raised (blur), 1 of 2 layers reduced, 2.500 GMAC, pixel -0.1000, "
        "PSNR 31.26 dB (input 30.00)"
    )
    plain = full | {"factor": None, "reduction": None, "validation": None}
    assert summary(plain) == "round 3 (reduce), 2.500 GMAC, pixel -0.1000"
