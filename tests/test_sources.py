"""What is passed over in a folder or a pattern, and what is said about it. Nothing is opened here."""

from pathlib import Path

import pytest

from hf_faceenh.pictures import heic
from hf_faceenh.planning import plan, refusals
from hf_faceenh.sources import find, passed_over

FILES = "a.png b.HEIC c.heic d.txt e.txt f.txt noending .hidden .git/config out/x.txt J. Smith"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in FILES.replace("J. Smith", "J._Smith").split():
        path = Path("in", name.replace("_", " "))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture(params=[True, False], ids=["with the extra", "without the extra"])
def extra(request, monkeypatch):
    monkeypatch.setattr(heic, "is_installed", lambda: request.param)
    return request.param


def test_files_are_passed_over_by_kind_and_number(extra):
    found, over = find(["in"], "in/out")
    assert [named.picture.name for named in found] == (["a.png", "b.HEIC", "c.heic"] if extra else ["a.png"])
    said = {
        True: "5 files passed over: 3 .txt, 2 without an ending",
        False: '7 files passed over: 3 .txt, 2 without an ending, 2 .heic (pip install "hf-faceenh[heic]")',
    }
    assert passed_over(over) == said[extra]
    assert passed_over([Path("a.txt")]) == "1 file passed over: 1 .txt"
    many = [Path(f"{index}.{kind}") for kind in range(20) for index in range(kind + 1)]
    assert passed_over(many) == (
        "210 files passed over: 20 .19, 19 .18, 18 .17, 17 .16, 16 .15, 15 .14, 14 .13, 13 .12, 78 others"
    )


def test_a_pattern_passes_over_what_it_does_not_name():
    found, over = find(["in/*"], "out")
    assert {Path("in/a.png")} <= {named.picture for named in found} and Path("in/d.txt") in over
    found, over = find(["in/*.txt"], "out")  # it is asked for
    assert len(found) == 3 and not over


def test_a_folder_without_pictures_says_what_it_holds(extra):
    Path("in/a.png").unlink()
    if extra:
        assert len(find(["in"], "out")[0]) == 2
        return
    for source, name in (("in", "in the folder in"), ("in/*", r"among in/\*")):
        with pytest.raises(
            ValueError, match=rf"There is no picture {name}: . files passed over: .*2 .heic \(pip install"
        ):
            find([source], "out")


def test_heic_without_the_extra_is_one_line(monkeypatch):
    monkeypatch.setattr(heic, "is_installed", lambda: False)
    (job,) = plan(find(["in/c.heic"], "out")[0], "out")
    hint = 'HEIC needs an extra: pip install "hf-faceenh[heic]"'
    assert str(refusals([job], overwrite=False)[job]) == f"{Path('in/c.heic')}: {hint}"
    with pytest.raises(OSError, match="picture.heif: HEIC needs an extra"):
        plan(find(["in/a.png"], "new.heif")[0], "new.heif")
