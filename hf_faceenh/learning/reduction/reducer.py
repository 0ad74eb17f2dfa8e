"""A smaller enhancer, round by round. `Reducer.reduce` is the method and reads from top to bottom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from hf_faceenh.learning.reduction.config import ReductionConfig
from hf_faceenh.learning.reduction.importance import importance
from hf_faceenh.learning.reduction.ratios import macs, uniform_ratios
from hf_faceenh.learning.reduction.settlement import Cut, Settlement
from hf_faceenh.learning.reduction.trials import Average, Batch, Loss, Quality, Trials, first_faces
from hf_faceenh.models.channels import Reducible, remove_channels


@dataclass(frozen=True)
class Trial:
    """One layer, reduced by `ratio`, with the cuts that were in place.

    Args:
        ratio: of its channels.
        quality: of the final image.
        lost: share of the quality index that the layer's last step uses up: above 1, it costs too much, unless the
            layer has not been cut for as many rounds.
    """

    ratio: float
    quality: Quality
    lost: float


@dataclass(frozen=True)
class LayerReduction:
    """What was decided for one layer.

    Args:
        name: of the layer, as in `channel_groups`.
        width: its channels before the round.
        settled: ratio that its own quality allowed.
        kept: ratio that it lost; below `settled` where the limit for the whole took channels back.
        trials: all ratios that were tried, with their quality.
    """

    name: str
    width: int
    settled: float
    kept: float
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Reduction:
    """The outcome of one round.

    Args:
        model: the smaller network; the same one where nothing is removed.
        keep: layer → channels that stay, for whatever must follow the weights; without the layers that stay whole.
        layers: the decision for every layer.
        wanted_macs: multiply-accumulates that the schedule asks for.
        macs_before, macs_after: multiply-accumulates for one face.
        quality_before, quality_after: of the final image.
        quality_settled: with what all layers together had lost before anything was taken back.
    """

    model: nn.Module
    keep: dict[str, torch.Tensor]
    layers: tuple[LayerReduction, ...]
    wanted_macs: int
    macs_before: int
    macs_after: int
    quality_before: Quality
    quality_settled: Quality
    quality_after: Quality


class Reducer:
    """Reduces a network round by round, to a share of its first multiply-accumulates.

    Args:
        config: how.
        first_macs: multiply-accumulates of the first network.
    """

    def __init__(self, config: ReductionConfig, first_macs: int):
        self.config, self.first_macs = config, first_macs
        self.round = 0
        self.prices: dict[str, float] = {}  # see `Settlement`
        self.waited: dict[str, int] = {}  # likewise

    def reduce(
        self,
        model: Reducible,
        calibration: Sequence[Batch],
        loss: Loss,
        recognizer: nn.Module | None = None,
        average: Average = lambda values: values,
    ) -> Reduction:
        """One round of the method.

        Args:
            model: the network as it is; left unchanged.
            calibration: this process's batches; of their faces, the first `config.calibration` are used.
            loss: what importance is measured by.
            recognizer: compares identities, where given.
            average: the mean of a tensor over all processes, so that all take the same decisions.

        Raises:
            ValueError: without calibration faces.
        """
        batches = first_faces(calibration, self.config.calibration)
        macs_before = macs(model)
        # For trials: masks and hooks have no business in a network that is trained.
        copy = remove_channels(model, {}).to(memory_format=torch.channels_last)
        wanted = self.wanted_macs(macs_before)
        self.round += 1

        # 1. Rank every layer's channels.
        scores = importance(copy, batches, loss, self.config.importance)
        trials = Trials(copy, {name: average(s) for name, s in scores.items()}, batches, recognizer, average)
        settlement = Settlement(trials, self.config, self.prices, self.waited)

        # 2. Settle layer after layer, each judged by the quality after it, until the schedule is met.
        if wanted < macs_before and self.config.indifferent:
            settlement.cut_alike(uniform_ratios(model, wanted, self.config))
        elif wanted < macs_before:
            settlement.cut_cheapest(wanted)
        settled, quality_settled = dict(settlement.ratios), settlement.outcome.quality

        # 3. Where all layers together cost too much, the most expensive cuts are taken back.
        settlement.take_back()
        self.waited = {name: 1 if cut else self.waited.get(name, 1) + 1 for name, cut in settlement.ratios.items()}

        # 4. What is left of the network.
        keep = trials.keep(settlement.ratios)
        smaller = remove_channels(model, keep) if keep else model
        return Reduction(
            model=smaller,
            keep=keep,
            layers=tuple(
                LayerReduction(
                    name=group.name,
                    width=group.width,
                    settled=settled[group.name],
                    kept=settlement.ratios[group.name],
                    trials=tuple(map(_trial, settlement.tried[group.name])),
                )
                for group in model.channel_groups()
            ),
            wanted_macs=round(wanted),
            macs_before=macs_before,
            macs_after=macs(smaller),
            quality_before=settlement.whole.quality,
            quality_settled=quality_settled,
            quality_after=settlement.outcome.quality,
        )

    def wanted_macs(self, now: int) -> float:
        """The schedule: the same factor in each of the rounds that are left, from `now` to the target. So what one
        round did not give is asked of the later ones."""
        target = self.config.target * self.first_macs
        return now * min(1, target / now) ** (1 / max(1, self.config.rounds - self.round))

    def state_dict(self) -> dict:
        return {"round": self.round, "prices": dict(self.prices), "waited": dict(self.waited)}

    def load_state_dict(self, state: Mapping) -> None:
        self.round, self.prices, self.waited = state["round"], dict(state["prices"]), dict(state["waited"])


def _trial(cut: Cut) -> Trial:
    return Trial(cut.ratio, cut.outcome.quality, cut.lost)
