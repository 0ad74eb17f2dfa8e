"""Acquisition: the samples of a run, step by step."""

from collections import deque
from collections.abc import Mapping

import numpy as np
import torch
from accelerate import Accelerator
from datasets import concatenate_datasets

from hf_faceenh.learning import schedule
from hf_faceenh.learning.data import Coefficients, FacePairs, check_sizes, load_faces, training_loader, weighed
from hf_faceenh.learning.degradation import TYPES, Degradation
from hf_faceenh.learning.metrics import as_batch, as_pictures, to_network
from hf_faceenh.learning.options import TrainingOptions
from hf_faceenh.learning.pipeline_input import PipelineInput
from hf_faceenh.learning.super_resolution import load_super_resolver

START_COEFFICIENT = 0.5
Batch = dict[str, torch.Tensor]


class Acquisition:
    """Sharp faces ("hq") and the same degraded with the round's coefficients ("lq"), `[B, 3, S, S]` in [-1, 1], and
    the strengths of the damage ("tags").

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
        parts = [load_faces(name, streaming=options.streaming) for name in options.datasets]
        for part in parts:
            check_sizes(part, size)
        self.faces = concatenate_datasets([weighed(part, size) for part in parts])
        start = dict.fromkeys(TYPES, START_COEFFICIENT) | options.coefficients
        self.pairs = FacePairs(Degradation(start, options.probabilities), size)
        self.coefficients = Coefficients(start)
        per_process = -(-options.assessed_faces // options.batch_size)
        assessed = max(1, min(per_process, schedule.batches_per_round(options)))
        self.pipeline_input = None
        if options.super_resolver:
            super_resolver = load_super_resolver(options.super_resolver).float().to(accelerator.device)
            self.pipeline_input = PipelineInput(super_resolver, options.super_resolved_share, options.seed)
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
        self._batches, self._number = iter(self.loader), first
        for _ in range(first, progress.step * options.gradient_accumulation_steps):
            self._next()

    def samples(self) -> list[Batch]:
        """The next step's, a batch for each backward pass."""
        return [self._next() for _ in range(self.options.gradient_accumulation_steps)]

    def _next(self) -> Batch:
        made, device = next(self._batches), self.accelerator.device
        sides = made.pop("side").tolist()
        batch = {name: values.to(device, non_blocking=True) for name, values in made.items()}
        batch |= {name: to_network(batch[name]) for name in ("hq", "lq")}
        if self.pipeline_input:
            number = self._number * self.accelerator.num_processes + self.accelerator.process_index
            with self.accelerator.autocast():
                batch["lq"] = self.pipeline_input(batch["lq"], sides, number)
        self._number += 1
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
