import runpy
import time
from pathlib import Path

TIMING = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "timing.py"))


def test_contenders_take_turns_and_warm_up():
    order = []

    def run(name):
        order.append(name)
        return float(len(order))

    times = TIMING["by_turns"]({name: lambda name=name: run(name) for name in "ab"}, turns=2, warm_up=1)
    assert order == list("ababab") and times == {"a": [3, 5], "b": [4, 6]}


def test_only_one_thread_on_the_processor_is_timed_by_its_own_time():
    fair_clock = TIMING["fair_clock"]
    assert fair_clock(1) is time.process_time
    assert fair_clock(2) is fair_clock(1, "cuda") is time.perf_counter


def test_seconds_are_those_of_the_call():
    calls = []
    assert 0 < TIMING["seconds"](lambda: calls.append(1)) < 1 and calls == [1]
    assert TIMING["seconds"](lambda: None, clock=iter((2.0, 5.0)).__next__) == 3
