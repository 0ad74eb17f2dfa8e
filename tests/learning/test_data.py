import gc
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as Feature
from PIL import Image

from hf_faceenh.learning import data, degradation
from hf_faceenh.learning.data import Coefficients, check_sizes, fixed_pairs, load_faces, training_loader
from hf_faceenh.learning.degradation import TYPES, Degradation, FacePairs

# Training batches

SIDE = 32


def picture(index):
    """`[40, 40, 3]` uint8 with soft and sharp parts, for every index another."""
    y, x = np.mgrid[:40, :40]
    disc = ((x - 20) ** 2 + (y - 12 - index) ** 2 < (6 + index) ** 2) * 120
    return np.stack([x * 3 + disc, y * 3 + disc // 2, disc + 5 * index], 2).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight pictures."""
    path = tmp_path_factory.mktemp("faces")
    for index in range(8):
        Image.fromarray(picture(index)).save(path / f"{index}.png")
    return path


@pytest.fixture(scope="module")
def parquet(folder, tmp_path_factory):
    """The same in four files."""
    path = tmp_path_factory.mktemp("parquet")
    faces = load_faces(str(folder))
    for index in range(4):
        faces.shard(4, index).to_parquet(path / f"{index}.parquet")
    return path


@pytest.fixture(scope="module")
def tables(folder, parquet):
    return {"map": load_faces(str(folder)), "stream": load_faces(str(parquet), streaming=True)}


def loader(faces, coefficients=None, **changes):
    """Published for all rounds, unless the coefficients are given."""
    if coefficients is None:
        coefficients = Coefficients(dict.fromkeys(TYPES, 0.5))
        coefficients.publish(1000, {})
    settings = {"batches": 8, "first_batch": 0, "batches_per_round": 4, "batch_size": 2, "rank": 0, "world_size": 1}
    settings |= {"seed": 5, "num_workers": 0} | changes
    made = training_loader(faces, FacePairs(Degradation(), SIDE), coefficients, **settings)
    made._batches.timeout = 60 if made._batches.num_workers else 0  # a deadlock fails, instead of waiting for ever
    return made


def lq_of(batches):
    return [batch["lq"].numpy() for batch in batches]


def as_set(batches):
    return sorted(lq.tobytes() for batch in lq_of(batches) for lq in batch)


def assert_same(first, second):
    first, second = list(first), list(second)
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys() == {"hq", "lq", "tags"}
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("kind", ["map", "stream"])
def test_batches_are_stacked_pairs_with_tags(tables, kind):
    batches = list(loader(tables[kind]))
    assert len(batches) == 8
    assert batches[0]["hq"].shape == batches[0]["lq"].shape == (2, 3, SIDE, SIDE)
    assert batches[0]["lq"].dtype == batches[0]["tags"].dtype == torch.float32
    assert batches[0]["tags"].shape == (2, len(TYPES)) and batches[0]["tags"].max() <= 0.5
    assert len(set(as_set(batches))) == 16  # two epochs, each face degraded in another way


def test_a_table_gives_the_same_batches_for_any_number_of_workers(tables):
    expected = list(loader(tables["map"]))
    for workers in (1, 2):
        assert_same(expected, loader(tables["map"], num_workers=workers))


def test_a_stream_gives_the_same_pictures_for_any_number_of_workers(tables):
    """In another order: the workers share out the files."""
    expected = as_set(loader(tables["stream"]))
    for workers in (1, 2):
        assert as_set(loader(tables["stream"], num_workers=workers)) == expected
        assert_same(loader(tables["stream"], num_workers=workers), loader(tables["stream"], num_workers=workers))


def test_an_epoch_has_every_face_once_in_an_order_of_its_own(folder):
    faces = load_faces(str(folder))
    plain = FacePairs(Degradation(), 40, shift=0, scale=0, rotation=0)
    settings = {"batches_per_round": 100, "batch_size": 8, "rank": 0, "world_size": 1, "seed": 0, "num_workers": 0}
    coefficients = Coefficients()
    coefficients.publish(0, {})
    orders = []
    for batch in training_loader(faces, plain, coefficients, batches=3, first_batch=0, **settings):
        blues = (batch["hq"][:, 2].amin(dim=(1, 2)) + 1) * 127.5  # 5 · index
        orders.append((blues / 5).round().int().tolist())
    assert all(sorted(order) == list(range(8)) for order in orders) and orders[0] != orders[1]


@pytest.mark.parametrize(("kind", "workers"), [("map", 0), ("map", 2), ("stream", 0), ("stream", 2)])
@pytest.mark.parametrize("first", [4, 5])
def test_a_resumed_loader_goes_on_with_the_same_batches(tables, kind, workers, first):
    straight = list(loader(tables[kind], num_workers=workers))
    assert_same(straight[first:], loader(tables[kind], num_workers=workers, first_batch=first))


def test_a_resumed_stream_does_not_decode_what_it_passes_over(tables, monkeypatch):
    decoded = []
    original = data._Reader.__call__
    monkeypatch.setattr(data._Reader, "__call__", lambda *a: decoded.append(a) or original(*a))
    assert len(list(loader(tables["stream"], first_batch=6))) == 2
    assert len(decoded) == 4


def test_two_processes_see_the_draws_of_one_with_the_double_batch(tables):
    whole = list(loader(tables["map"], batch_size=4))
    parts = [list(loader(tables["map"], rank=rank, world_size=2)) for rank in (0, 1)]
    for batch, *halves in zip(whole, *parts, strict=True):
        for name, values in batch.items():
            np.testing.assert_array_equal(values, np.concatenate([half[name] for half in halves]))


@pytest.mark.parametrize("source", ["folder", "parquet"])
def test_two_processes_share_out_a_stream(folder, parquet, source):
    """A folder is one file to a stream, or as many as it has pictures; both ways each face goes to one process."""
    faces = load_faces(str({"folder": folder, "parquet": parquet}[source]), streaming=True)
    parts = [as_set(loader(faces, rank=rank, world_size=2, batches=2)) for rank in (0, 1)]
    assert sorted(parts[0] + parts[1]) == as_set(loader(faces, batches=4))


def test_workers_beyond_the_files_of_a_stream_are_not_started(parquet, caplog):
    stream = load_faces(str(parquet / "0.parquet"), streaming=True)
    with caplog.at_level(logging.WARNING):
        assert as_set(loader(stream, num_workers=2)) == as_set(loader(stream))
    assert "1 file(s) per process" in caplog.text


# Coefficients


@pytest.mark.parametrize("kind", ["map", "stream"])
def test_changed_coefficients_hold_from_the_next_rounds_first_batch_on_in_running_workers(tables, kind):
    """The workers are asked for two batches each in advance: across the end of a round, whose last batch has not been
    trained on when they would begin with the next one's."""
    coefficients = Coefficients()
    first, second = dict.fromkeys(TYPES, 0.2), dict.fromkeys(TYPES, 0.9)
    published = {0: first, 1: second, 2: first}
    coefficients.publish(0, first)
    found = []
    running = loader(tables[kind], coefficients, batches=9, batches_per_round=3, num_workers=2)
    for number, batch in enumerate(running):
        found.append(batch)
        time.sleep(0.05)  # time for a worker to run ahead
        if (number + 1) % 3 == 0 and number < 8:
            coefficients.publish((number + 1) // 3, published[(number + 1) // 3])
    expected = {}
    for round, values in published.items():
        constant = Coefficients(values)
        constant.publish(1000, {})
        expected[round] = list(loader(tables[kind], constant, batches=9, batches_per_round=3, num_workers=2))
    assert_same(found, [expected[number // 3][number] for number in range(9)])
    assert max(batch["tags"].max() for batch in found[3:6]) > 0.2  # and the rounds do differ


def test_a_worker_waits_until_its_round_is_published(tables):
    coefficients = Coefficients(dict.fromkeys(TYPES, 0.1))
    coefficients.publish(0, {})
    batches = iter(loader(tables["map"], coefficients, num_workers=1))
    for _ in range(4):
        next(batches)
    threading.Timer(0.3, coefficients.publish, (1, dict.fromkeys(TYPES, 1.0))).start()
    started = time.monotonic()
    assert next(batches)["tags"].max() > 0.1
    assert time.monotonic() - started > 0.2


def test_waiting_workers_do_not_hold_up_the_end(tables):
    coefficients = Coefficients()
    coefficients.publish(0, {})
    running = loader(tables["map"], coefficients, num_workers=2)
    batches = iter(running)
    for _ in range(4):
        next(batches)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    started = time.monotonic()
    del batches, running
    gc.collect()
    assert time.monotonic() - started < 3 and not any(worker.is_alive() for worker in workers)


def test_workers_that_wait_for_a_killed_process_end(folder, tmp_path):
    script = tmp_path / "wait.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "from hf_faceenh.learning.data import *\n"
        "coefficients = Coefficients()\n"
        "coefficients.publish(0, {})\n"
        "settings = dict(batches=8, first_batch=0, batches_per_round=2, batch_size=1, rank=0, world_size=1, seed=0)\n"
        f"faces, pairs = load_faces({str(folder)!r}), FacePairs(Degradation(), {SIDE})\n"
        "batches = iter(training_loader(faces, pairs, coefficients, num_workers=2, **settings))\n"
        "next(batches), next(batches)\n"
        "print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)\n"
        "next(batches)\n"
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len(workers) == 2
    time.sleep(0.2)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(map(runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [pid for pid in workers if runs(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def runs(pid):
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "zombie" not in status.read_text()


def test_without_workers_an_unpublished_round_is_an_error_not_a_wait(tables):
    with pytest.raises(RuntimeError, match="Publish the coefficients of round 0"):
        next(iter(loader(tables["map"], Coefficients())))


def test_coefficients_come_back_as_they_were_given():
    coefficients = Coefficients({"blur": 0.3})
    assert coefficients.values() == dict.fromkeys(TYPES, 1.0) | {"blur": 0.3}
    coefficients.publish(4, {"noise": 0.7})
    assert coefficients.at(4) == coefficients.at(3) == dict.fromkeys(TYPES, 1.0) | {"blur": 0.3, "noise": 0.7}
    with pytest.raises(ValueError, match="'snow'"):
        coefficients.publish(5, {"snow": 0.5})


def test_coefficients_work_in_spawned_workers(tables):
    coefficients = Coefficients(dict.fromkeys(TYPES, 0.5))
    coefficients.publish(1, {})
    running = loader(tables["map"], coefficients, num_workers=1, batches=2)
    running._batches.multiprocessing_context = "spawn"
    assert_same(running, loader(tables["map"], batches=2))


# Broken pictures


@pytest.fixture(scope="module")
def with_broken(folder, tmp_path_factory):
    """The eight pictures, one cut off in the middle of its data, one no picture at all, one oblong."""
    path = tmp_path_factory.mktemp("broken")
    for file in folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path / "cut.png")
    (path / "cut.png").write_bytes((path / "cut.png").read_bytes()[:2000])
    (path / "empty.png").write_bytes(b"")
    Image.new("RGB", (40, 50)).save(path / "oblong.png")
    return path


@pytest.mark.parametrize(("streaming", "workers"), [(False, 0), (False, 2), (True, 0), (True, 2)])
def test_broken_pictures_are_replaced_and_counted_once(with_broken, streaming, workers):
    faces = load_faces(str(with_broken), streaming=streaming)
    running = loader(faces, batches=22, num_workers=workers)  # four epochs
    assert running.broken == 0
    batches = list(running)
    assert len(batches) == 22 and all(batch["hq"].isfinite().all() for batch in batches)
    assert running.broken == 3
    if workers == 0 or not streaming:
        assert_same(batches, loader(faces, batches=22, num_workers=0))
    assert_same(batches[7:], loader(faces, batches=22, num_workers=workers, first_batch=7))


def test_a_broken_picture_is_named_once(with_broken, caplog):
    with caplog.at_level(logging.WARNING):
        list(loader(load_faces(str(with_broken)), batches=22))
    assert len(caplog.messages) == 3
    assert any("oblong.png is 40×50 px, not square; it is passed over" in line for line in caplog.messages)


@pytest.mark.parametrize("streaming", [False, True])
def test_nothing_but_broken_pictures_is_an_error(tmp_path, streaming):
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(b"no picture %d" % index)
    faces = load_faces(str(tmp_path), streaming=streaming)
    with pytest.raises(ValueError, match="None of the dataset's pictures"):
        next(iter(loader(faces)))
    with pytest.raises(ValueError, match="None of the first .* pictures can be read"):
        check_sizes(faces, SIDE)


# Faces from anywhere


def blues(faces):
    return sorted(int(np.asarray(face["image"])[..., 2].min()) for face in faces)


@pytest.fixture(scope="module")
def archive(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("webdataset") / "faces-0000.tar"
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, file.name)
    return path


@pytest.mark.parametrize("streaming", [False, True])
def test_faces_come_from_folders_parquet_and_webdataset(folder, parquet, archive, streaming):
    sources = [folder, parquet, parquet / "*.parquet", archive, archive.parent]
    for source in sources:
        faces = load_faces(str(source), streaming=streaming)
        assert blues(faces) == [5 * index for index in range(8)], source
    assert blues(load_faces(str(parquet / "0.parquet"), streaming=streaming)) == [0, 5]


def test_what_holds_no_faces_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.txt").write_text("no picture")
    (tmp_path / "bad.parquet").write_text("no parquet")
    Dataset.from_dict({"words": ["a", "b"]}).to_parquet(tmp_path / "words.parquet")
    Dataset.from_dict({"image": [], "words": []}, Features(image=Feature(), words=Value("string"))).to_parquet(
        tmp_path / "none.parquet"
    )
    for name, message in {
        "empty": "empty is empty or holds no pictures",
        "words.txt": "words.txt is not a picture archive",
        "bad.parquet": "bad.parquet cannot be loaded: ",
        "words.parquet": "needs one column of pictures named image; it has words",
        "none.parquet": "is empty|no data",
        "nowhere": "nowhere does not exist",
    }.items():
        for streaming in (False, True):
            with pytest.raises(ValueError, match=message) as error:
                load_faces(str(tmp_path / name), streaming=streaming)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize("streaming", [False, True])
def test_sizes_are_checked_by_headers(folder, with_broken, tmp_path, streaming, caplog):
    check_sizes(load_faces(str(folder), streaming=streaming), 40)
    assert not caplog.messages
    with pytest.raises(ValueError, match=r"png is 40×40 px, too small: training at 64 px needs"):
        check_sizes(load_faces(str(folder), streaming=streaming), 64)
    with pytest.raises(ValueError, match=r"oblong\.png is 40×50 px, not square"):
        check_sizes(load_faces(str(with_broken), streaming=streaming), SIDE)
    for index, side in enumerate((40, 48)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{index}.png")
    with caplog.at_level(logging.WARNING):
        check_sizes(load_faces(str(tmp_path), streaming=streaming), SIDE)
    assert caplog.messages == ["The faces have sides from 40 to 48 px; all are resized to 32 px."]


# Evaluation sets


def test_fixed_pairs_are_seeded_cached_pictures(with_broken, tmp_path):
    source = tmp_path / "faces"
    shutil.copytree(with_broken, source)
    faces = load_faces(str(source))
    pairs = fixed_pairs(faces, Degradation(), SIDE, seed=1)
    assert pairs.column_names == ["hq", "lq"] and len(pairs) == 8  # without the broken ones
    assert pairs[0]["hq"].size == pairs[0]["lq"].size == (SIDE, SIDE) and pairs[0]["hq"].mode == "RGB"
    sharp = degradation.resize(picture(0), (SIDE, SIDE))
    np.testing.assert_array_equal(pairs[0]["hq"], sharp)
    np.testing.assert_array_equal(pairs[0]["lq"], Degradation()(sharp, np.random.default_rng((1, 0))))

    with pytest.MonkeyPatch.context() as patch:  # the second time, nothing is degraded
        patch.setattr(Degradation, "__call__", lambda *_: pytest.fail("not from the cache"))
        again = fixed_pairs(load_faces(str(source)), Degradation(), SIDE, seed=1)
    assert again.cache_files == pairs.cache_files != []
    np.testing.assert_array_equal(again[3]["lq"], pairs[3]["lq"])

    for other in (
        fixed_pairs(faces, Degradation(), SIDE, seed=2),
        fixed_pairs(faces, Degradation({"noise": 0.1}), SIDE, seed=1),
    ):
        assert other.cache_files != pairs.cache_files
        assert any(
            np.any(np.asarray(one["lq"]) != np.asarray(two["lq"])) for one, two in zip(other, pairs, strict=True)
        )
