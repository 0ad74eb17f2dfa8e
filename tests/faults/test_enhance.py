"""`enhance` on a folder while the machine fails: killed, on a full disk, with inputs that vanish, twice at once.

Of the batch tool and of training the same is tested beside the rest of them, in `test_batch.py` and `test_train.py`.
"""

import contextlib
import json
import resource
import subprocess

import pytest
from PIL import Image
from processes import process

from hf_faceenh.cli import main

COUNT = 8


@pytest.fixture
def folder(astronaut, tmp_path):
    """in/: eight pictures."""
    photo = Image.open(astronaut).convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)
    (tmp_path / "in").mkdir()
    for index in range(COUNT):
        photo.save(tmp_path / "in" / f"{index:02}.png")
    return tmp_path / "in"


@pytest.fixture
def words(model, folder):
    """The command: out/ gets the results."""
    return "enhance", folder, "-o", folder.with_name("out"), "--model", model, "--json", "--upscale", 4


def pictures(folder):
    """The files of the results, of which each can be decoded to its end."""
    files = sorted(folder.with_name("out").rglob("[!.]*.png"))
    for file in files:
        with Image.open(file) as image:
            image.load()
    return files


def records(out):
    return [json.loads(line) for line in out.splitlines()]


def begun(words, count=1, *more):
    """The command's process, when it has done so many pictures."""
    running = process(*words, *more)
    for _ in range(count):
        assert "faces" in json.loads(running.stdout.readline())
    return running


def test_a_killed_run_leaves_whole_files_and_the_next_goes_on(words, folder, capsys):
    running = begun(words, 3, "--save-faces", "--compare")
    running.kill()
    running.communicate()
    times = {file: file.stat().st_mtime_ns for file in pictures(folder)}
    main([*map(str, words), "--save-faces", "--compare"])
    out, err = capsys.readouterr()
    skipped = sum("skipped" in record for record in records(out))
    assert len(records(out)) == COUNT and 3 <= skipped < COUNT
    assert f"{COUNT - skipped} of {COUNT} pictures written" in err and f"{skipped} already there, 0 failed" in err
    assert len(pictures(folder)) == 4 * COUNT  # result, comparison, face before and after
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())


def on_full_disk(words, folder, capsys):
    """Where no result has room: the first is tried, and no picture blamed for it."""
    status = main([*map(str, words)])
    out, err = capsys.readouterr()
    (record,) = records(out)
    assert status == 1 and record["input"].endswith("00.png") and "damaged" not in record["error"]
    assert f"0 of {COUNT} pictures written" in err and err.endswith("1 failed, the others not tried\n")
    assert pictures(folder) == []
    return record["error"]


def test_where_files_cannot_grow_the_work_stops(words, folder, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        assert "File too large" in on_full_disk(words, folder, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert main([*map(str, words)]) == 0 and len(pictures(folder)) == COUNT


@contextlib.contextmanager
def small_disk(folder, bytes):
    """A disk in memory; skips the test where this machine does not let it be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={bytes}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no mount: {error}")
    if mounted.returncode:
        pytest.skip(f"no disk in memory: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_stops_the_work(words, folder, capsys):
    with small_disk(folder.with_name("out"), 64 * 1024):
        assert "No space left on device" in on_full_disk(words, folder, capsys)


@pytest.mark.slow
def test_an_input_that_vanishes_is_made_when_it_is_back(words, folder):
    running = begun(words)
    last = folder / f"{COUNT - 1:02}.png"
    last.rename(folder.with_name("elsewhere.png"))
    out, err = running.communicate()
    assert running.returncode == 1 and f"{COUNT - 1} of {COUNT} pictures written" in err
    assert "There is no file" in records(out)[-1]["error"]
    folder.with_name("elsewhere.png").rename(last)
    running = process(*words)
    _, err = running.communicate()
    assert running.returncode == 0 and f"1 of {COUNT} pictures written" in err and len(pictures(folder)) == COUNT


@pytest.mark.slow
def test_two_runs_at_once_make_every_picture_whole(words, folder):
    runs = [process(*words) for _ in range(2)]
    said = [running.communicate() for running in runs]
    assert [running.returncode for running in runs] == [0, 0]
    assert not any("error" in record for out, _ in said for record in records(out))
    assert len(pictures(folder)) == COUNT and not list(folder.with_name("out").glob(".*"))
