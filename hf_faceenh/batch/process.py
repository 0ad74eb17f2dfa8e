"""A process of a run: which one it is, how it is asked to stop, and what it does when it cannot go on."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

# Which of the processes this one is, by the variables that `accelerate launch`, `torchrun` and MPI set. There is no
# process group: its members would wait for each other, and for ever for one that was killed.
from accelerate.utils.environment import get_cpu_distributed_information as launched

from hf_faceenh.errors import one_line
from hf_faceenh.faults import Fault, fault_of

T = TypeVar("T")

GO_ON = "Whole shards are kept: to go on, run the same command again."
PAUSES = (1, 5, 25)  # s, before what the environment has kept from being done is tried again


class Stopped(OSError):
    """This process cannot go on; one line says why, and what to do then."""


@contextlib.contextmanager
def fatal(kind: type[Exception], what: str) -> Iterator[None]:
    """Makes `Stopped` of an error, with `what` before it."""
    try:
        yield
    except Stopped:
        raise
    except kind as error:
        raise Stopped(f"{what}: {one_line(error)} {GO_ON}") from error


def patiently(function: Callable[..., T], *arguments: Any) -> T:
    """Calls a function, and again after a while as long as the environment is at fault; raises its last error."""
    for pause in (*PAUSES, None):
        try:
            return function(*arguments)
        except Exception as error:
            if pause is None or isinstance(error, Stopped) or fault_of(error) is not Fault.ENVIRONMENT:
                raise
        time.sleep(pause)


def say(text: str) -> None:
    """A line for the user; of several processes, it says which one's."""
    process = launched()
    which = f"process {process.rank + 1} of {process.world_size}: " if process.world_size > 1 else ""
    print(f"hf-faceenh: {which}{text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Makes `KeyboardInterrupt` of the signals that ask to stop, in the main thread. Its argument is the signal."""

    def interrupt(number: int, _frame: Any) -> None:
        raise KeyboardInterrupt(signal.Signals(number))

    with contextlib.ExitStack() as stack:
        for kind in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, kind, signal.signal(kind, interrupt))
        yield
