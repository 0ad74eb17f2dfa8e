import pytest

from hf_faceenh.learning.checkpoints import Checkpoints


def write(checkpoints, step, text="weights"):
    partial = checkpoints.begin()
    (partial / "enhancer").mkdir()
    (partial / "enhancer" / "model").write_text(text)
    (partial / "state").write_text(f"{step}")
    return checkpoints.finish(step)


def test_the_last_ones_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step in (5, 10, 100):
        write(checkpoints, step)
    assert [path.name for path in checkpoints.all()] == ["step_00000010", "step_00000100"]
    said = []
    assert checkpoints.newest(said.append).name == "step_00000100" and said == []


@pytest.mark.parametrize("damage", ["cut", "lost", "unsealed"])
def test_a_damaged_newest_one_falls_back_to_the_one_before(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path, keep=3)
    good, bad = write(checkpoints, 1), write(checkpoints, 2)
    if damage == "cut":
        (bad / "enhancer" / "model").write_text("weig")
    elif damage == "lost":
        (bad / "state").unlink()
    else:
        (bad / "manifest.json").unlink()
    said = []
    assert checkpoints.newest(said.append) == good
    assert len(said) == 1 and "step_00000002 is damaged" in said[0] and "\n" not in said[0]


def test_what_was_not_finished_does_not_count(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    first = write(checkpoints, 1)
    (checkpoints.begin() / "state").write_text("half")
    assert checkpoints.all() == [first]
    second = write(checkpoints, 2)  # over what the interrupted one left
    assert (second / "state").read_text() == "2" and checkpoints.newest(print) == second
    checkpoints.begin()
    checkpoints.abandon()
    assert checkpoints.all() == [first, second]


def test_none_is_one_clear_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no undamaged checkpoint in .*start without --resume"):
        Checkpoints(tmp_path).newest(print)


def test_a_step_done_again_replaces_its_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    write(checkpoints, 3, "old")
    path = write(checkpoints, 3, "new")
    assert (path / "enhancer" / "model").read_text() == "new" and len(checkpoints.all()) == 1
