"""One of the processes of a run: which one it is, and how it is asked to stop."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from accelerate.utils.environment import get_int_from_env


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
def stop_signals() -> Iterator[list[signal.Signals]]:
    """Gives a list that gets the signals that ask to stop. A second interrupt is a `KeyboardInterrupt` again."""
    caught: list[signal.Signals] = []

    def on_signal(number: int, _frame: Any) -> None:
        caught.append(signal.Signals(number))
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {kind: signal.signal(kind, on_signal) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
