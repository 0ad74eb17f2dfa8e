"""One of the processes of a run: which one it is, how it is asked to stop, and what it does when it cannot go on."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate.utils import parse_flag_from_env
from accelerate.utils.environment import get_int_from_env

from hf_faceenh.errors import one_line
from hf_faceenh.faults import Fault, fault_of

T = TypeVar("T")

GO_ON = "Whole shards are kept: to go on, run the same command again."
PAUSES = (1, 5, 25)  # s, before what the environment has kept from being done is tried again


class Stopped(OSError):
    """This process cannot go on; one line says why, and what to do then."""


class Interrupted(BaseException):
    """This process was asked to stop; its argument is the signal. No picture's error, so no `Exception`."""


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


@dataclass(frozen=True, slots=True)
class Process:
    """Which of the run's processes this one is, as the launcher says.

    There is no process group: its members would wait for each other, and for ever for one that was killed.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @classmethod
    def launched(cls) -> "Process":
        """By the variables that `accelerate launch`, `torchrun` and MPI set."""
        return cls(
            get_int_from_env(["RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK"], 0),
            get_int_from_env(["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"], 1),
            get_int_from_env(["LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK"], 0),
        )

    def device(self) -> str:
        """For `load_pipeline`; of several GPUs this process gets its own."""
        if parse_flag_from_env("ACCELERATE_USE_CPU"):
            return "cpu"
        if torch.cuda.is_available():
            torch.cuda.set_device(self.local_rank % torch.cuda.device_count())
        return "auto"

    def say(self, text: str) -> None:
        which = f"process {self.rank + 1} of {self.world_size}: " if self.world_size > 1 else ""
        print(f"hf-faceenh: {which}{text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Makes `Interrupted` of the signals that ask to stop, in the main thread."""

    def interrupt(number: int, _frame: Any) -> None:
        raise Interrupted(signal.Signals(number))

    before = {kind: signal.signal(kind, interrupt) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
