"""A smaller enhancer, round by round. `Reducer.reduce` is the method and reads from top to bottom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from hf_faceenh.learning.reduction.config import ReductionConfig
from hf_faceenh.learning.reduction.importance import importance
from hf_faceenh.learning.reduction.ratios import choose_ratios, fitting_ratio, layer_prices, least_ratio, macs
from hf_faceenh.learning.reduction.trials import Average, Batch, Loss, Quality, Trials, first_faces
from hf_faceenh.models.channels import ChannelGroup, Reducible, remove_channels

PROBE = 1 / 8  # ratio at which a layer's sensitivity is first measured


@dataclass(frozen=True)
class Trial:
    """One layer, reduced by `ratio`, and the quality after it."""

    ratio: float
    psnr: float
    identity: float | None


@dataclass(frozen=True)
class LayerReduction:
    """What was decided for one layer.

    Args:
        name: of the layer, as in `channel_groups`.
        width: its channels before the round.
        asked: ratio that the schedule asks for; a multiple of channels, so often 0.
        kept: ratio that its quality allows; below `asked` where the layer was relaxed.
        psnr_before, psnr_after: in dB, after this layer, before and after removing `kept` of it alone.
        identity_before, identity_after: likewise, the distance; `None` without a recognizer.
        trials: all ratios that were tried, with their quality.
    """

    name: str
    width: int
    asked: float
    kept: float
    psnr_before: float
    psnr_after: float
    identity_before: float | None
    identity_after: float | None
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
    """

    model: nn.Module
    keep: dict[str, torch.Tensor]
    layers: tuple[LayerReduction, ...]
    wanted_macs: int
    macs_before: int
    macs_after: int
    quality_before: Quality
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
        self.sensitivities: dict[str, float] = {}  # layer → share of the quality index lost per share of channels

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
        groups, macs_before = model.channel_groups(), macs(model)
        copy = remove_channels(model, {})  # for trials: masks and hooks have no business in a network that is trained
        wanted = self.wanted_macs(macs_before)
        self.round += 1

        # 1. Rank every layer's channels.
        scores = importance(copy, batches, loss, self.config.importance)
        trials = Trials(copy, {name: average(s) for name, s in scores.items()}, batches, recognizer, average)

        # 2. A ratio for every layer: together they meet the schedule, each according to its price.
        ratios, due = {}, wanted < macs_before
        if due:
            ratios = choose_ratios(model, self._prices(trials, model), wanted, self.config)

        # 3. Each layer on trial, judged by the quality after it; where it costs too much, its ratio is relaxed.
        layers = [self._settle(trials, group, ratios.get(group.name, 0.0)) for group in groups]
        if due and not any(layer.kept for layer in layers):
            layers = [self._settle_least(trials, *pair) for pair in zip(groups, layers, strict=True)]

        # 4. All accepted reductions at once, and the whole assessed once more.
        keep = {
            layer.name: trials.most_important(group, layer.kept)
            for group, layer in zip(groups, layers, strict=True)
            if layer.kept
        }
        smaller = remove_channels(model, keep) if keep else model
        return Reduction(
            model=smaller,
            keep=keep,
            layers=tuple(layers),
            wanted_macs=round(wanted),
            macs_before=macs_before,
            macs_after=macs(smaller),
            quality_before=trials.assess(copy),
            quality_after=trials.assess(smaller),
        )

    def wanted_macs(self, now: int) -> float:
        """The schedule: the same factor in each of the rounds that are left, from `now` to the target. So what a
        relaxed layer did not give is asked of the later rounds."""
        target = self.config.target * self.first_macs
        return now * min(1, target / now) ** (1 / max(1, self.config.rounds - self.round))

    def _prices(self, trials: Trials, model: Reducible) -> dict[str, float]:
        """Of all layers; those that have never been on trial are measured first."""
        groups = model.channel_groups()
        if self.config.indifferent:
            return {group.name: 1.0 for group in groups}
        for group in groups:
            ratio = max(least_ratio(group.width, self.config), fitting_ratio(group.width, PROBE, self.config))
            if group.name not in self.sensitivities and ratio <= self.config.largest_ratio:
                self._learn(group, ratio, self._index_lost(trials.before(group), trials.after(group, ratio)))
        return layer_prices(model, self.sensitivities)

    def _settle(self, trials: Trials, group: ChannelGroup, asked: float) -> LayerReduction:
        """`asked`, halved until the quality after the layer stays within the index; at last 0."""
        before = after = trials.before(group)
        tried, ratio = [], asked
        while ratio:
            quality = trials.after(group, ratio)
            tried.append(Trial(ratio, quality.psnr, quality.identity))
            lost = self._index_lost(before, quality)
            self._learn(group, ratio, lost)
            if lost <= 1:
                after = quality
                break
            ratio = fitting_ratio(group.width, ratio / 2, self.config)
        return LayerReduction(
            name=group.name,
            width=group.width,
            asked=asked,
            kept=ratio,
            psnr_before=before.psnr,
            psnr_after=after.psnr,
            identity_before=before.identity,
            identity_after=after.identity,
            trials=tuple(tried),
        )

    def _settle_least(self, trials: Trials, group: ChannelGroup, layer: LayerReduction) -> LayerReduction:
        """The smallest step of a layer that was not asked, for a round in which every layer that was asked has been
        relaxed to 0: the reductions end only when no layer can give any more."""
        least = least_ratio(group.width, self.config)
        return layer if layer.asked or least > self.config.largest_ratio else self._settle(trials, group, least)

    def _index_lost(self, before: Quality, after: Quality) -> float:
        """The share of the image quality index that a trial uses up: above 1, it costs too much."""
        lost = (before.psnr - after.psnr) / self.config.index_psnr
        if after.identity is not None:
            lost = max(lost, (after.identity - before.identity) / self.config.index_identity)
        return lost

    def _learn(self, group: ChannelGroup, ratio: float, lost: float) -> None:
        self.sensitivities[group.name] = max(lost, 0.01) / ratio  # a gain in quality is an accident of the few faces

    def state_dict(self) -> dict:
        return {"round": self.round, "sensitivities": dict(self.sensitivities)}

    def load_state_dict(self, state: Mapping) -> None:
        self.round, self.sensitivities = state["round"], dict(state["sensitivities"])
