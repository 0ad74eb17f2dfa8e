import errno
import resource

import pytest
import torch
from safetensors.torch import save_file

from hf_faceenh.learning.checkpoints import WRITE_ERRORS, Checkpoints, save_state, spared


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


def test_without_any_the_run_starts_from_its_beginning_but_damaged_ones_are_not_passed_over(tmp_path):
    checkpoints, said = Checkpoints(tmp_path), []
    checkpoints.begin()
    assert checkpoints.chosen("latest", said.append) is None
    assert said == [f"There is no checkpoint in {tmp_path}: the run starts from its beginning."]
    (write(checkpoints, 1) / "state").write_text("damaged")
    with pytest.raises(ValueError, match="All checkpoints in .* are damaged. Remove it"):
        checkpoints.chosen("latest", said.append)


def test_a_step_done_again_replaces_its_checkpoint(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    write(checkpoints, 3, "old")
    path = write(checkpoints, 3, "new")
    assert (path / "enhancer" / "model").read_text() == "new" and len(checkpoints.all()) == 1


def test_what_is_written_in_a_block_is_there_after_it_or_not_at_all(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.last() == "(none)"
    with checkpoints.writing(3) as folder:
        (folder / "state").write_text("3")
    with pytest.raises(RuntimeError), checkpoints.writing(4) as folder:
        (folder / "state").write_text("4")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000003"]
    assert checkpoints.last() == str(tmp_path / "step_00000003")


def test_resume_means_the_newest_a_folder_or_none(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    path = write(checkpoints, 3)
    assert checkpoints.chosen("latest", print) == path and checkpoints.chosen(None, print) is None
    assert checkpoints.chosen(str(tmp_path / "other"), print) == tmp_path / "other"


@pytest.fixture
def full_disk():
    """A limit on the size of files stands in for it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_of_the_disk(full_disk, tmp_path):
    weights = {"a": torch.zeros(1 << 18)}
    with pytest.raises(OSError) as raised:
        save_state(weights, tmp_path / "state.pt")
    assert raised.value.errno == errno.EFBIG
    said = []
    with spared("The checkpoint", said.append, "Make room."):
        save_file(weights, tmp_path / "weights.safetensors")
    (line,) = said
    assert line.startswith("The checkpoint could not be written (") and line.endswith("training goes on. Make room.")


def test_an_error_of_the_device_is_no_full_disk(monkeypatch, tmp_path):
    def fail(*_):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="CUDA error"), spared("The checkpoint", print):
        save_state({}, tmp_path / "state.pt")
    assert RuntimeError not in WRITE_ERRORS
