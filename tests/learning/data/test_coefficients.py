import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from batches import SIDE, assert_same, loader

from hf_faceenh.learning.data import Coefficients
from hf_faceenh.learning.degradation import TYPES


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


def test_waiting_workers_do_not_hold_up_the_end(tables, monkeypatch):
    coefficients = Coefficients()
    coefficients.publish(0, {})
    running = loader(tables["map"], coefficients, num_workers=2)
    batches = iter(running)
    for _ in range(4):
        next(batches)
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    killed = []  # by PyTorch, after it has waited for seconds
    monkeypatch.setattr(type(workers[0]), "terminate", lambda worker: killed.append(worker) or worker.kill())
    del batches, running
    gc.collect()
    assert not killed and not any(worker.is_alive() for worker in workers)


def test_workers_that_wait_for_a_killed_process_end(folder, tmp_path):
    script = tmp_path / "wait.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "from hf_faceenh.learning.data import *\n"
        "from hf_faceenh.learning.degradation import Degradation\n"
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
