"""Timing things side by side in one run: they take turns, so that whatever else the machine does falls on all."""

import time
from collections.abc import Callable, Mapping

import torch

Clock = Callable[[], float]  # seconds


def fair_clock(threads: int, device: str = "cpu") -> Clock:
    """With one thread the processor's time, so that whatever else the machine does counts for none; with several, or
    another device, the clock's, which needs a machine that does nothing else."""
    return time.process_time if threads == 1 and device == "cpu" else time.perf_counter


def seconds(run: Callable[[], object], clock: Clock = time.perf_counter) -> float:
    """What one call takes, with the work that it gives a GPU."""
    start = clock()
    run()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return clock() - start


def by_turns(contenders: Mapping[str, Callable[[], float]], turns: int, warm_up: int = 0) -> dict[str, list[float]]:
    """
    Args:
        contenders: name → a function that runs it once and returns its seconds.
        turns: how often each runs.
        warm_up: turns before these, which do not count.

    Returns:
        name → seconds of each turn.
    """
    times = {name: [] for name in contenders}
    for _ in range(warm_up + turns):
        for name, run in contenders.items():
            times[name].append(run())
    return {name: values[warm_up:] for name, values in times.items()}
