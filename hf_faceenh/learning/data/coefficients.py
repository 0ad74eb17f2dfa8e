"""How the loader's workers learn which coefficients a round has."""

import multiprocessing
import os
import time
from collections.abc import Mapping

import torch
from torch.utils.data import get_worker_info

from hf_faceenh.learning.degradation import TYPES, checked


class Coefficients:
    """The coefficients of each round, in memory that a process shares with its DataLoader workers.

    A worker is asked for batches of round i+1 while round i is still going on. `at` makes it wait until that round's
    coefficients are published, so that they hold from its first batch on.

    Args:
        values: type → coefficient in [0, 1]; 1 for those not named. Not yet published.

    Raises:
        ValueError: for an unknown type or a value outside [0, 1].
    """

    WAIT = 0.005  # s

    def __init__(self, values: Mapping[str, float] | None = None):
        values = dict.fromkeys(TYPES, 1.0) | checked("coefficients", values)
        self._values = torch.tensor([values[kind] for kind in TYPES], dtype=torch.float64).share_memory_()
        self._round = torch.tensor(-1).share_memory_()  # the last published
        self._closed = torch.tensor(False).share_memory_()

    def values(self) -> dict[str, float]:
        """The last ones: of the newest published round."""
        return dict(zip(TYPES, self._values.tolist(), strict=True))

    def publish(self, round: int, values: Mapping[str, float]) -> None:
        """Gives a round its coefficients, once all batches of the rounds before it have arrived.

        Raises:
            ValueError: for an unknown type or a value outside [0, 1].
        """
        values = self.values() | checked("coefficients", values)
        self._values.copy_(torch.tensor([values[kind] for kind in TYPES], dtype=torch.float64))
        self._round.fill_(round)  # last: workers wait for it

    def at(self, round: int) -> dict[str, float]:
        """A round's coefficients; in a worker, waits until they are published.

        Raises:
            RuntimeError: outside of workers, where it would wait for ever; or when the batch is no longer needed.
        """
        while self._round < round:
            if get_worker_info() is None:
                raise RuntimeError(f"Publish the coefficients of round {round} before asking for its first batch.")
            if self._closed:
                raise RuntimeError("Training has ended.")
            if not multiprocessing.parent_process().is_alive():
                os._exit(1)  # killed: the process that this worker makes batches for is gone
            time.sleep(self.WAIT)
        return self.values()

    def open(self) -> None:
        """From now on, workers wait."""
        self._closed.fill_(False)

    def close(self) -> None:
        """No more batches are needed: lets waiting workers go, so that they can be stopped at once."""
        self._closed.fill_(True)
