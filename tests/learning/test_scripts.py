"""What scripts share: their options, and how a mistake ends them."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hf_faceenh.learning.scripts import parse_options, run_script


@dataclass
class Options:
    """
    Args:
        hq: sharp faces.
        lq: folders of degraded faces.
        made: what others made.
        sharp: whether it is.
        size: in px.
        dataset: one or several.
    """

    hq: Path
    lq: list[Path]
    made: list[str] = field(default_factory=list)
    sharp: bool = True
    size: int = 256
    dataset: list[str] | str = "faces"


def parse(*arguments):
    return parse_options(Options, "A script.", arguments, several=("lq", "made"), switches=("sharp",))


def test_several_values_stand_one_after_the_other():
    options, text = parse("--hq", "a", "--lq", "b", "c", "--size", "64")
    assert options == Options(Path("a"), [Path("b"), Path("c")], size=64)
    assert "size: 64" in text


def test_a_field_of_one_or_several_values_takes_both(tmp_path):
    def dataset(*arguments):
        return parse(*arguments, "--hq", "a", "--lq", "b")[0].dataset

    assert dataset() == "faces"
    assert dataset("--dataset", "b/*.parquet") == "b/*.parquet"
    assert dataset("--size", "64", "--dataset", "b", "c d", "--made", "e") == ["b", "c d"]
    (tmp_path / "options.yaml").write_text("dataset: [b, c]\n")
    assert dataset("--config", str(tmp_path / "options.yaml")) == ["b", "c"]
    assert dataset("--config", str(tmp_path / "options.yaml"), "--dataset", "d") == "d"
    (tmp_path / "options.yaml").write_text("dataset: b\n")
    assert dataset("--config", str(tmp_path / "options.yaml")) == "b"


def test_switches_take_no_value():
    assert not parse("--hq", "a", "--lq", "b", "--no-sharp")[0].sharp
    assert parse("--hq", "a", "--lq", "b", "--sharp")[0].sharp


def test_a_file_sets_options_and_the_command_line_overrides_it(tmp_path):
    (tmp_path / "options.yaml").write_text("hq: a\nlq: [b]\nsize: 32\n")
    options, _ = parse("--config", str(tmp_path / "options.yaml"), "--size", "16")
    assert options == Options(Path("a"), [Path("b")], size=16)


@pytest.mark.parametrize("arguments", [("--hq", "a"), ("--hq", "a", "--lq", "b", "--size", "large"), ("--what", "a")])
def test_a_mistake_is_told_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(*arguments)
    assert ended.value.code == 2 and "error" in capsys.readouterr().err


def test_help_does_not_wait_for_torch():
    code = "import sys, hf_faceenh.learning.scripts; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_script_ends_with_one_line_and_status_1(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["training/train.py"])

    def main():
        raise ValueError("--rounds must be\nat least 1")

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == "train.py: --rounds must be at least 1"
