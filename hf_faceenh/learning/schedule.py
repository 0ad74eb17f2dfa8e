"""The course of a run: how far it is (`Progress`), and what follows from that and the options, as pure functions."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from hf_faceenh.learning.options import TrainingOptions
from hf_faceenh.learning.rates import FALLS, warm_up

ROUNDING = 1.005  # a target counts as reached if it is missed by no more than this factor
Rank = tuple[int, float]  # multiply-accumulates and relative error: less is better, and the first comes first


@dataclass
class Progress:
    """How far a run has come.

    Args:
        step: optimiser steps done.
        round: rounds done.
        phase: "reduce" until the last reduction, then "tune".
        reason: why the reductions ended.
        tune_from: step at which the second phase began.
        skipped: steps of the enhancer skipped in a row, because something was not finite.
        discriminator_skipped: likewise, of the discriminator.
        best: rank of the network in OUT/enhancer.
        stale: evaluations since then, or since the second phase began.
        losses: term → sum and count of this round.
    """

    step: int = 0
    round: int = 0
    phase: str = "reduce"
    reason: str = ""
    tune_from: int = 0
    skipped: int = 0
    discriminator_skipped: int = 0
    best: Rank | None = None
    stale: int = 0
    losses: dict[str, list[float]] = field(default_factory=dict)

    def begin_tuning(self, reason: str) -> None:
        """The second phase; patience begins anew."""
        self.phase, self.tune_from, self.reason, self.stale = "tune", self.step, reason, 0

    def begin_round(self) -> None:
        self.round, self.losses = self.round + 1, {}

    def add_losses(self, terms: dict[str, float]) -> None:
        for name, value in terms.items():
            total, count = self.losses.get(name, (0.0, 0))
            self.losses[name] = [total + value, count + 1]

    def mean_losses(self, sum: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Of the round so far; `sum` adds up a tensor over all processes."""
        totals = sum(torch.tensor(list(self.losses.values())).reshape(-1, 2)).tolist()
        return {name: total / count for name, (total, count) in zip(self.losses, totals, strict=True)}


def first_phase(options: TrainingOptions) -> str:
    """The phase that a run begins in: it may be all tuning."""
    return "reduce" if options.rounds > options.tune_rounds else "tune"


def tune_steps(options: TrainingOptions) -> int:
    """Steps of the second phase, at most."""
    return min(options.tune_rounds, options.rounds) * options.steps_per_round


def batches_per_round(options: TrainingOptions) -> int:
    """Batches that a process sees in a round."""
    return options.steps_per_round * options.gradient_accumulation_steps


def rate_share(options: TrainingOptions, progress: Progress) -> float:
    """Share of the learning rate: rises over the warm-up, falls to 0 in the second phase."""
    share = warm_up(progress.step, options.warmup_steps)
    if progress.phase == "reduce":
        return share
    done = min(1.0, (progress.step - progress.tune_from) / tune_steps(options))
    return share * FALLS[options.schedule](done)


def reduction_due(options: TrainingOptions, progress: Progress) -> bool:
    """Whether the round that ends here ends with a reduction."""
    if options.reduction.target >= 1 or progress.phase != "reduce":
        return False
    since = progress.round + 1 - max(1, options.first_reduction)
    return since >= 0 and since % options.reduce_every == 0


def reductions_over(
    options: TrainingOptions, progress: Progress, first_macs: int, macs: tuple[int, int] | None
) -> str | None:
    """Why the reductions are over with the round that ends here; `None` if they are not, or were before.

    Args:
        options: of the run.
        progress: before the round is counted.
        first_macs: multiply-accumulates of the first network.
        macs: those before and after this round's reduction; `None` if it had none.
    """
    if progress.phase == "tune":
        return None
    if macs and macs[1] <= options.reduction.target * first_macs * ROUNDING:
        return f"the target of {options.reduction.target:g} of the multiply-accumulates is reached"
    if macs and macs[1] == macs[0]:
        return "no layer can be reduced within the image quality index"
    if progress.round + 1 >= options.rounds - options.tune_rounds:
        return used_up(options)
    return None


def end(options: TrainingOptions, progress: Progress) -> str | None:
    """The end condition, between two rounds: why the run ends here; `None` if it goes on."""
    tuning = progress.phase == "tune"
    if progress.round >= options.rounds or (tuning and progress.step - progress.tune_from >= tune_steps(options)):
        return progress.reason or used_up(options)
    if tuning and options.patience and progress.stale >= options.patience:
        return f"no improvement in {progress.stale} evaluations"
    return None


def used_up(options: TrainingOptions) -> str:
    return f"the {options.rounds} rounds are used up"


def is_better(rank: Rank, best: Rank | None) -> bool:
    """Whether an evaluation beats the best so far. A relative error that is not finite beats nothing."""
    return math.isfinite(rank[1]) and (best is None or tuple(rank) < tuple(best))


def first_batch(options: TrainingOptions, progress: Progress, assessed: int) -> int:
    """Where a (resumed) run's loader starts: at the next batch, or at the first of the `assessed` last batches of the
    round, which its end looks at again."""
    following = progress.step * options.gradient_accumulation_steps
    begin = progress.round * batches_per_round(options)
    return min(following, max(begin, begin + batches_per_round(options) - assessed))
