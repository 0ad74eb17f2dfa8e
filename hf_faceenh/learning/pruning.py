"""A smaller enhancer, layer by layer: reduction ratios, trials judged by the quality after each layer, removal.

`Reducer.reduce` is the method; it reads from top to bottom. Faces are `[B, 3, S, S]` RGB in [-1, 1]; a calibration
batch maps "hq" to sharp faces (first samples) and "lq" to their poor twins (second samples). A *ratio* is the share of
a layer's channels that is removed. What a channel is, and how it is removed, is in `hf_faceenh.models.channels`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hf_faceenh.learning.identity import identity_distance
from hf_faceenh.models.channels import (
    ChannelGroup,
    Keep,
    Reducible,
    Slice,
    masked,
    reduce_tensors,
    reduced_config,
    remove_channels,
)

Batch = Mapping[str, torch.Tensor]
Loss = Callable[[torch.Tensor, Batch], torch.Tensor]  # (enhanced faces, batch) → scalar
Average = Callable[[torch.Tensor], torch.Tensor]  # over all processes

PROBE = 1 / 8  # ratio at which a layer's sensitivity is first measured
SPREAD = 4.0  # how far a layer's price, measured on a few faces, may move its ratio from the others'
LEAST_SIDE = 32  # in px; on smaller faces a recognizer sees nobody


@dataclass(frozen=True)
class ReductionConfig:
    """How channels are reduced.

    Args:
        target: multiply-accumulates in the end, as a share of the first network's; 1 reduces nothing.
        rounds: reductions to get there, where no layer is relaxed.
        index_psnr: image quality index: loss of PSNR in dB that a layer may cause in one round; inf: any.
        index_identity: likewise, for the distance of the face recognizer's embeddings. Where both are inf, no layer is
            relaxed, and all get the same ratio.
        importance: rank channels by taylor (their effect on the loss) or l2 (the norm of their weights).
        multiple: the channel counts of reduced layers are multiples of it, and at least it.
        largest_ratio: largest share of a layer's channels to remove in one round.
        calibration: faces per process that importance and quality are measured on.

    Raises:
        ValueError: for a value out of its range.
    """

    target: float = 0.25
    rounds: int = 20
    index_psnr: float = 0.1
    index_identity: float = 0.01
    importance: Literal["taylor", "l2"] = "taylor"
    multiple: int = 8
    largest_ratio: float = 0.5
    calibration: int = 16

    def __post_init__(self):
        rules = {
            "target": (0 < self.target <= 1, "above 0 and at most 1"),
            "rounds": (self.rounds >= 1, "at least 1"),
            "index_psnr": (self.index_psnr > 0, "above 0"),
            "index_identity": (self.index_identity > 0, "above 0"),
            "importance": (self.importance in ("taylor", "l2"), "taylor or l2"),
            "multiple": (self.multiple >= 1, "at least 1"),
            "largest_ratio": (0 < self.largest_ratio < 1, "between 0 and 1"),
            "calibration": (self.calibration >= 1, "at least 1"),
        }
        for name, (fits, range_) in rules.items():
            if not fits:
                raise ValueError(f"reduction.{name} must be {range_}; got {getattr(self, name)!r}.")


@dataclass(frozen=True)
class Quality:
    """Of enhanced faces against the sharp ones.

    Args:
        psnr: mean PSNR in dB.
        identity: mean distance of the recognizer's embeddings; `None` without a recognizer.
    """

    psnr: float
    identity: float | None


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
        macs_before, macs_after: multiply-accumulates of one face.
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
            self._measure_sensitivities(trials, groups)
            ratios = self._ratios(model, groups, wanted)

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

    @property
    def _indifferent(self) -> bool:
        """Whether no loss of quality is too much, so that all layers count as equally sensitive."""
        return math.isinf(self.config.index_psnr) and math.isinf(self.config.index_identity)

    def wanted_macs(self, now: int) -> float:
        """The schedule: in the rounds that are left, the same factor each from `now` to the target. What a relaxed
        layer did not give is so asked of the later rounds."""
        target = self.config.target * self.first_macs
        return now * min(1, target / now) ** (1 / max(1, self.config.rounds - self.round))

    def _measure_sensitivities(self, trials: "Trials", groups: Sequence[ChannelGroup]) -> None:
        """Of the layers that have never been on trial."""
        if self._indifferent:
            return
        for group in groups:
            ratio = max(least_ratio(group.width, self.config), fitting_ratio(group.width, PROBE, self.config))
            if group.name not in self.sensitivities and ratio <= self.config.largest_ratio:
                self._learn(group, ratio, self._index_lost(trials.before(group), trials.after(group, ratio)))

    def _ratios(self, model: Reducible, groups: Sequence[ChannelGroup], wanted: float) -> dict[str, float]:
        """A common factor over each layer's price, found by bisection: the smallest that leaves no more than `wanted`
        multiply-accumulates, or the largest there is."""

        def macs_left(ratios: Mapping[str, float]) -> int:
            widths = {group.name: round(group.width * (1 - ratios.get(group.name, 0))) for group in groups}
            return _macs(type(model), reduced_config(model, widths))

        prices = self._prices(groups, macs_left)
        typical = float(torch.tensor(list(prices.values())).median())
        relative = {name: min(max(price / typical, 1 / SPREAD), SPREAD) for name, price in prices.items()}

        def ratios(factor: float) -> dict[str, float]:
            return {
                group.name: fitting_ratio(group.width, factor / relative[group.name], self.config) for group in groups
            }

        low, high = 0.0, SPREAD * self.config.largest_ratio
        for _ in range(12):  # 12 bisections place the factor within 0.0005
            middle = (low + high) / 2
            if macs_left(ratios(middle)) > wanted:
                low = middle
            else:
                high = middle
        # At one factor many layers may take their next step, and one step may save much more than is still wanted: so
        # they take it one by one, the cheapest first, and the last step is the smallest that is enough.
        chosen, next_step = ratios(low), ratios(high)
        while macs_left(chosen) > wanted and chosen != next_step:
            steps = [chosen | {group.name: self._one_step_more(group, chosen[group.name])} for group in groups]
            if enough := [(left, step) for step in steps if (left := macs_left(step)) <= wanted]:
                return max(enough, key=itemgetter(0))[1]
            cheapest = min((name for name in prices if chosen[name] < next_step[name]), key=prices.__getitem__)
            chosen[cheapest] = next_step[cheapest]
        return chosen

    def _one_step_more(self, group: ChannelGroup, ratio: float) -> float:
        """`ratio` and the smallest step down to a multiple; `ratio` itself where there is none."""
        stays = round(group.width * (1 - ratio))
        more = 1 - (1 - ratio) * (1 - least_ratio(stays, self.config))
        return more if more <= min(self.config.largest_ratio, 1 - 1 / group.width) else ratio

    def _prices(
        self, groups: Sequence[ChannelGroup], macs_left: Callable[[Mapping[str, float]], int]
    ) -> dict[str, float]:
        """Layer → share of the quality index lost per multiply-accumulate saved; the same for all where no loss is too
        much. Ratios in proportion to 1/price cost least, if what a layer loses grows with its ratio's square."""
        if self._indifferent:
            return {group.name: 1.0 for group in groups}
        known = [self.sensitivities[group.name] for group in groups if group.name in self.sensitivities]
        typical = float(torch.tensor(known).median()) if known else 1.0
        now, prices = macs_left({}), {}
        for group in groups:
            saved = now - macs_left({group.name: (group.width - 1) / group.width})
            prices[group.name] = self.sensitivities.get(group.name, typical) / saved
        return prices

    def _settle(self, trials: "Trials", group: ChannelGroup, asked: float) -> LayerReduction:
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

    def _settle_least(self, trials: "Trials", group: ChannelGroup, layer: LayerReduction) -> LayerReduction:
        """Where all that was asked for had to be relaxed to 0: the least of the layers that were not asked, so that
        the reductions end only when no layer can give any more."""
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


class Trials:
    """The network as it is and with one layer reduced, looked at after that layer.

    Args:
        model: the unreduced network.
        scores: layer → importance of its channels.
        batches: calibration faces.
        recognizer: compares identities, where given.
        average: over all processes.
    """

    def __init__(
        self,
        model: Reducible,
        scores: Mapping[str, torch.Tensor],
        batches: Sequence[Batch],
        recognizer: nn.Module | None,
        average: Average,
    ):
        self.model, self.scores, self.batches = model, scores, batches
        self.recognizer, self.average = recognizer, average
        self._before: dict[int | None, Quality] = {}  # by the resolution at which the image is looked at

    def most_important(self, group: ChannelGroup, ratio: float) -> torch.Tensor:
        """The channels that stay when `ratio` of them are removed, ascending, int64."""
        count = round(group.width * (1 - ratio))
        return self.scores[group.name].argsort(descending=True, stable=True)[:count].sort().values.cpu()

    def before(self, group: ChannelGroup) -> Quality:
        """The quality after the layer, unreduced."""
        depth = depth_of(group)
        if depth not in self._before:
            self._before[depth] = self.assess(self.model, group)
        return self._before[depth]

    def after(self, group: ChannelGroup, ratio: float) -> Quality:
        """The quality after the layer without its `ratio` least important channels."""
        with masked(self.model, {group.name: self.most_important(group, ratio)}):
            return self.assess(self.model, group)

    @torch.no_grad()
    def assess(self, model: nn.Module, group: ChannelGroup | None = None) -> Quality:
        """The quality of `model` after a layer; without one, of the final image. The mean over faces and processes."""
        figures = []
        for batch in self.batches:
            image, final = images_after(model, batch["lq"], group)
            hq = F.interpolate(batch["hq"], image.shape[-2:], mode="area")
            squared = (image.float().clamp(-1, 1) - hq).square().mean(dim=(1, 2, 3)).clamp(min=1e-10)
            psnr, identity = 10 * (4 / squared).log10(), torch.zeros_like(squared)  # 4: the square of the range
            if self.recognizer is not None:
                faces = (image, hq) if image.shape[-1] >= LEAST_SIDE else (final, batch["hq"])
                identity = identity_distance(self.recognizer, *faces)
            figures.append(torch.stack([psnr, identity.to(psnr)], dim=1))
        psnr, identity = self.average(torch.cat(figures).mean(dim=0)).tolist()
        return Quality(psnr, None if self.recognizer is None else identity)


def depth_of(group: ChannelGroup | None) -> int | None:
    """The resolution of the image that a layer is judged by: its own in the generating network; else `None`, for the
    final image."""
    return group.resolution if group is not None and group.part == "generating_network" else None


def images_after(model: nn.Module, lq: torch.Tensor, group: ChannelGroup | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The image that a layer is judged by, `[B, 3, r, r]`, and the final one, `[B, 3, S, S]`.

    A network that makes an image at every resolution gives the one at the layer's depth; of one that makes only the
    final image, that is reduced (by area) to the layer's resolution.
    """
    depth = depth_of(group)
    if depth is None or group.image is None:
        final = model(lq, return_dict=False)[0]
        return (final if depth is None else F.interpolate(final, (depth, depth), mode="area")), final
    seen = []
    handle = model.get_submodule(group.image).register_forward_hook(lambda _, __, output: seen.append(output[-1]))
    try:
        final = model(lq, return_dict=False)[0]
    finally:
        handle.remove()
    return seen[0], final


def first_faces(batches: Sequence[Batch], count: int) -> list[dict[str, torch.Tensor]]:
    """The first `count` faces of `batches`, as batches."""
    taken = []
    for batch in batches:
        if count > 0:
            taken.append({name: values[:count] for name, values in batch.items()})
            count -= len(batch["hq"])
    if not taken:
        raise ValueError("Channels cannot be reduced without calibration faces; give at least one batch.")
    return taken


# Ratios and channel counts


def fitting_ratio(width: int, ratio: float, config: ReductionConfig) -> float:
    """The largest ratio, at most `ratio` and the largest allowed, that leaves a multiple of channels; or 0."""
    ratio = min(ratio, config.largest_ratio)
    stays = math.ceil(width * (1 - ratio) / config.multiple - 1e-6) * config.multiple
    return max(width - stays, 0) / width


def least_ratio(width: int, config: ReductionConfig) -> float:
    """The ratio of the smallest step down to a multiple; 1 where there is none."""
    stays = (width - 1) // config.multiple * config.multiple
    return (width - stays) / width


def check_target(model: Reducible, config: ReductionConfig, first_macs: int) -> None:
    """Raises a `ValueError` where even the narrowest layers leave more multiply-accumulates than the target."""
    widths = {}
    for group in model.channel_groups():
        width = group.width
        while (ratio := least_ratio(width, config)) <= config.largest_ratio:
            width = round(width * (1 - ratio))
        widths[group.name] = width
    least = _macs(type(model), reduced_config(model, widths)) / first_macs
    if least > config.target:
        raise ValueError(
            f"reduction.target {config.target:g} cannot be reached: with multiple {config.multiple} and largest_ratio "
            f"{config.largest_ratio:g}, {least:.3g} of the multiply-accumulates stay. Raise target or lower multiple."
        )


def macs(model: Reducible) -> int:
    """Multiply-accumulates of one face: those of convolutions and matrix products."""
    return _macs(type(model), reduced_config(model, {}))


def _macs(model_class: type[nn.Module], config: Mapping) -> int:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:  # computes nothing
        network = model_class(**config)
        network(torch.empty(1, 3, network.config.sample_size, network.config.sample_size))
    return counter.get_total_flops() // 2


# Importance


def importance(
    model: Reducible, batches: Sequence[Batch], loss: Loss, method: Literal["taylor", "l2"] = "taylor"
) -> dict[str, torch.Tensor]:
    """Layer → importance of each of its channels, `[width]` ≥ 0.

    - taylor: how much the loss of a face changes when the channel fades, to first order (Molchanov et al. 2019): the
      mean over faces of |Σ w·∂loss/∂w|, over the weights w that read the channel. Over these and not over those that
      make it, because demodulation hides the size of the latter from the loss.
    - l2: the norm of what makes the channel (Li et al. 2017) times the norm of the weights that read it, so that it
      does not matter which of the two is large. It needs no faces, but does not see demodulation.
    """
    groups, parameters = model.channel_groups(), dict(model.named_parameters())
    if method == "l2":
        return {
            group.name: _norms(parameters, group, group.producers) * _norms(parameters, group, _reading_weights(group))
            for group in groups
        }
    names = sorted({where.parameter for group in groups for where in _reading_weights(group)})
    weights = [parameters[name] for name in names]
    scores = {group.name: 0.0 for group in groups}
    faces = [{name: values[i : i + 1] for name, values in b.items()} for b in batches for i in range(len(b["hq"]))]
    for face in faces:
        with torch.enable_grad():
            value = loss(model(face["lq"], return_dict=False)[0], face)
        gradients = torch.autograd.grad(value, weights)
        effects = {name: (w * g).detach() for name, w, g in zip(names, weights, gradients, strict=True)}
        for group in groups:
            sums = [_channels(effects, group, where).sum(dim=1) for where in _reading_weights(group)]
            scores[group.name] += torch.stack(sums).sum(dim=0).abs() / len(faces)
    return scores


def _reading_weights(group: ChannelGroup) -> list[Slice]:
    return [where for where in group.consumers if where.dim == 1]


def _channels(tensors: Mapping[str, torch.Tensor], group: ChannelGroup, where: Slice) -> torch.Tensor:
    """A group's part of one tensor, `[width, entries per channel]`."""
    part = tensors[where.parameter].movedim(where.dim, 0)
    return part[where.start : where.start + group.width * where.repeat].reshape(group.width, -1)


def _norms(parameters: Mapping[str, torch.Tensor], group: ChannelGroup, slices: Sequence[Slice]) -> torch.Tensor:
    parts = [_channels(parameters, group, where).detach() for where in slices]
    return torch.cat(parts, dim=1).norm(dim=1)


# What follows the channels

MOMENT_POWERS = {"exp_avg": -1, "exp_avg_sq": -2, "max_exp_avg_sq": -2}  # of Adam and AdamW, in `reduce_tensors`


def carry_optimizer(
    old_optimizer: torch.optim.Optimizer,
    old_model: Reducible,
    new_model: Reducible,
    keep: Keep,
    new_optimizer: torch.optim.Optimizer,
) -> None:
    """Gives the Adam or AdamW of the smaller network the step counts and, for the kept channels, the moments that the
    old one had. Learning rates and parameters of other models are left to the caller."""
    old_parameters, new_parameters = dict(old_model.named_parameters()), dict(new_model.named_parameters())
    states = {name: old_optimizer.state[p] for name, p in old_parameters.items() if p in old_optimizer.state}
    for name, state in states.items():
        new_optimizer.state[new_parameters[name]] = {"step": state["step"].clone()}
    for moment, power in MOMENT_POWERS.items():
        values = {name: state[moment] for name, state in states.items() if moment in state}
        for name, value in reduce_tensors(values, old_model, keep, power).items():
            new_optimizer.state[new_parameters[name]][moment] = value
