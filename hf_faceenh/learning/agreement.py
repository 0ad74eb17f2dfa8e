"""What all processes of a run must agree on: whether a step is finite, whether to stop, and sums over all."""

import contextlib
import signal
from collections.abc import Iterator, Mapping, Sequence

import torch
from accelerate import Accelerator


class Agreement:
    """Reads in one transfer what the host must know of a step, after the processes have exchanged what concerns all.

    Attributes:
        asked: whether SIGTERM has asked this process to stop. Only the next exchange may read it: a process that left
            the training loop on its own would leave the others waiting for it.
        stopping: whether the run stops, because a process was asked to; the same in all.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.asked = self.stopping = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within it, SIGTERM asks the run to stop instead of ending the process."""
        before = signal.signal(signal.SIGTERM, lambda *_: setattr(self, "asked", True))
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def read(
        self, decisive: Sequence[torch.Tensor], terms: Mapping[str, torch.Tensor]
    ) -> tuple[bool, dict[str, float]]:
        """
        Args:
            decisive: scalars on one device, totals of losses and the length of a gradient.
            terms: further scalars, for the log.

        Returns:
            whether the decisive ones are finite in all processes; and this process's terms.
        """
        finite = torch.stack([value.detach() for value in decisive]).isfinite().all()
        flags = torch.stack([~finite, torch.full_like(finite, self.asked)]).float()
        if self.accelerator.num_processes > 1:
            flags = self.accelerator.reduce(flags, "sum")
        bad, stop, *values = torch.stack([*flags, *(value.detach().float() for value in terms.values())]).tolist()
        self.stopping = self.stopping or stop > 0
        return bad == 0, dict(zip(terms, values, strict=True))

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Over all processes; on the CPU."""
        return self.accelerator.reduce(values.to(self.accelerator.device), "sum").cpu()
