"""Acquisition: the samples of a run, step by step."""

from collections import deque
from collections.abc import Mapping

import numpy as np
import torch
from accelerate import Accelerator

from hf_faceenh.learning import schedule
from hf_faceenh.learning.data import Coefficients, FacePairs, check_sizes, load_faces, training_loader
from hf_faceenh.learning.degradation import TYPES, Degradation
from hf_faceenh.learning.metrics import as_batch, as_pictures
from hf_faceenh.learning.options import TrainingOptions

START_COEFFICIENT = 0.5
Batch = dict[str, torch.Tensor]


class Acquisition:
    """Sharp faces ("hq") and the same degraded with the round's coefficients ("lq"), `[B, 3, S, S]` in [-1, 1].

    Args:
        options: of the run.
        size: S.
        accelerator: its process gets its share of the faces, on its device.

    Attributes:
        held: this round's last batches, which are assessed at its end.
        coefficients: degradation type → coefficient, of the round.

    Raises:
        ValueError: in one line, for faces or coefficients that cannot be used.
    """

    def __init__(self, options: TrainingOptions, size: int, accelerator: Accelerator):
        self.options, self.accelerator = options, accelerator
        self.faces = load_faces(options.dataset, streaming=options.streaming)
        check_sizes(self.faces, size)
        start = dict.fromkeys(TYPES, START_COEFFICIENT) | options.coefficients
        self.pairs = FacePairs(Degradation(start, options.probabilities), size)
        self.coefficients = Coefficients(start)
        per_process = -(-options.assessed_faces // options.batch_size)
        assessed = max(1, min(per_process, schedule.batches_per_round(options)))
        self.held: deque[Batch] = deque(maxlen=assessed)

    def begin(self, progress: schedule.Progress) -> None:
        """Starts making samples where the run is; after a resume, first those before that the round's end needs."""
        options = self.options
        first = schedule.first_batch(options, progress, self.held.maxlen)
        self.loader = training_loader(
            self.faces,
            self.pairs,
            self.coefficients,
            batches=options.rounds * schedule.batches_per_round(options),
            first_batch=first,
            batches_per_round=schedule.batches_per_round(options),
            batch_size=options.batch_size,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            seed=options.seed,
            num_workers=options.num_workers,
        )
        self.coefficients.publish(progress.round, {})
        self._batches = iter(self.loader)
        for _ in range(first, progress.step * options.gradient_accumulation_steps):
            self._next()

    def samples(self) -> list[Batch]:
        """The next step's, a batch for each backward pass."""
        return [self._next() for _ in range(self.options.gradient_accumulation_steps)]

    def _next(self) -> Batch:
        device = self.accelerator.device
        batch = {name: values.to(device, non_blocking=True) for name, values in next(self._batches).items()}
        self.held.append(batch)
        return batch

    def worst(self, batch: Batch, number: int) -> torch.Tensor:
        """The sharp faces of a batch, degraded with every coefficient at its highest: what the enhanced faces of any
        round are compared with. The same damage for the same `number`, in every round."""
        coefficients = dict.fromkeys(TYPES, self.options.curriculum.highest)
        rng = np.random.default_rng((self.options.seed, self.accelerator.process_index, number))
        damaged = [self.pairs.degradation(face, rng, coefficients) for face in as_pictures(batch["hq"])]
        return as_batch(damaged, batch["hq"].device)

    def next_round(self, round: int, coefficients: Mapping[str, float]) -> None:
        """Begins a round: the next samples are degraded with its coefficients; those not named stay as they are."""
        self.held.clear()
        self.coefficients.publish(round, coefficients)

    def end(self) -> int:
        """Stops making samples; returns how many pictures could not be read and were passed over."""
        self._batches.close()
        return self.loader.broken
