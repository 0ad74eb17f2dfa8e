"""Layer after layer loses channels, with the earlier cuts in place; and the whole takes back what was too much."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hf_faceenh.learning.reduction.config import ReductionConfig
from hf_faceenh.learning.reduction.ratios import macs_left, next_ratio
from hf_faceenh.learning.reduction.trials import Outcome, Quality, Ratios, Trials

LEAST = 0.01  # share of the index that a cut loses at least: a gain in quality is an accident of the few faces
TOLERANCE = 1.5
RECOVERY = 0.5  # how much cheaper training may have made a step since it was last tried


@dataclass(frozen=True)
class Cut:
    """A layer's ratio raised from `before` to `ratio`, on top of the cuts that were in place.

    Args:
        layer: its name.
        before, ratio: share of its channels.
        outcome: of the network with it.
        lost: share of the layer's quality index that it uses up.
        lost_of_whole: likewise, of the limit for all layers together.
        saved: multiply-accumulates.
    """

    layer: str
    before: float
    ratio: float
    outcome: Outcome
    lost: float
    lost_of_whole: float
    saved: int


class Settlement:
    """The cuts of one round.

    Args:
        trials: of the unreduced network.
        config: indexes, limits, multiples.
        prices: layer → the last known price of a step, from earlier rounds; brought up to date here. A price is the
            share of the layer's quality index that is lost for each multiply-accumulate that is saved.
        waited: layer → rounds since it was last cut, this one included; 1 for a layer that it lacks.
    """

    def __init__(self, trials: Trials, config: ReductionConfig, prices: dict[str, float], waited: Mapping[str, int]):
        self.trials, self.config, self.prices, self.waited = trials, config, prices, waited
        self.ratios: dict[str, float] = dict.fromkeys(trials.groups, 0.0)
        self.tried: dict[str, list[Cut]] = {layer: [] for layer in trials.groups}
        self.cuts: list[Cut] = []
        self.whole = self.outcome = trials.outcome({})
        self.macs = macs_left(trials.model, {})

    def cut_cheapest(self, wanted: float) -> None:
        """Step by step, always the cheapest of all layers, until no more than `wanted` multiply-accumulates are left.

        A step is tried when its layer's last known price is the lowest, and made if it costs at most `TOLERANCE` times
        the next one's; otherwise it waits. So few are tried in vain. What a step saves beyond `wanted` does not count.
        A layer whose index has no room for its next step is left alone for the rest of the round.
        """
        prices = {layer: RECOVERY * self.prices.get(layer, 0.0) for layer in self.ratios}
        waiting: dict[str, Cut] = {}  # tried with all the cuts that are in place
        while prices and self.macs > wanted:
            layer = min(prices, key=prices.__getitem__)
            cut = waiting.pop(layer, None) or self._next(layer)
            if cut is None:
                del prices[layer]
                continue
            cost = max(cut.lost, LEAST)
            self.prices[layer] = cost / cut.saved
            prices[layer] = cost / min(cut.saved, self.macs - wanted)
            others = [price for name, price in prices.items() if name != layer]
            if prices[layer] > TOLERANCE * min(others, default=math.inf):
                waiting[layer] = cut
            elif self._allowed(cut):
                self._add(cut)
                waiting = {}
            else:
                del prices[layer]

    def cut_alike(self, ratios: Ratios) -> None:
        """All layers at once, whatever that loses."""
        self.ratios = dict(ratios)
        self.outcome = self.trials.outcome(ratios)

    def take_back(self) -> None:
        """Takes cuts back until all together keep the limit: the most expensive first, by what it cost the whole for
        each multiply-accumulate that it saved."""
        while self.cuts and self._lost_of_whole(self.whole.quality, self.outcome.quality) > 1:
            last = {cut.layer: cut for cut in self.cuts}.values()  # of each layer: the others rest on nothing else
            dearest = max(last, key=lambda cut: cut.lost_of_whole / cut.saved)
            self.cuts.remove(dearest)
            self.ratios[dearest.layer] = dearest.before
            self.outcome = self.trials.outcome(self.ratios)
        self.macs = macs_left(self.trials.model, self.ratios)

    def _next(self, layer: str) -> Cut | None:
        """The layer's next step; `None` where there is none, or it saves nothing."""
        ratio = next_ratio(self.trials.groups[layer].width, self.ratios[layer], self.config)
        if ratio <= self.ratios[layer]:
            return None
        cut = self._try(layer, ratio)
        return cut if cut.saved > 0 else None

    def _try(self, layer: str, ratio: float) -> Cut:
        ratios = self.ratios | {layer: ratio}
        outcome = self.trials.outcome(ratios)
        cut = Cut(
            layer=layer,
            before=self.ratios[layer],
            ratio=ratio,
            outcome=outcome,
            lost=self._lost(layer, outcome),
            lost_of_whole=self._lost_of_whole(self.outcome.quality, outcome.quality),
            saved=self.macs - macs_left(self.trials.model, ratios),
        )
        self.tried[layer].append(cut)
        return cut

    def _allowed(self, cut: Cut) -> bool:
        """Whether the layer's quality index has room for it. The first cut may use up the index of all the rounds that
        the layer has waited, because its smallest step may cost more than one round's: if that were never made, all
        other layers would have to give what the largest does not."""
        earlier = [one.lost for one in self.cuts if one.layer == cut.layer]
        return cut.lost + sum(earlier) <= (1 if earlier else self.waited.get(cut.layer, 1))

    def _add(self, cut: Cut) -> None:
        self.cuts.append(cut)
        self.ratios[cut.layer], self.outcome, self.macs = cut.ratio, cut.outcome, self.macs - cut.saved

    def _lost(self, layer: str, outcome: Outcome) -> float:
        """The share of its quality index that a cut of the layer uses up, or of the limit for the whole, if that is
        more: the worst of what the final image and the maps that are computed from the layer's lose."""
        before, config = self.outcome, self.config
        change = max(outcome.changes[name] - before.changes[name] for name in self.trials.groups[layer].readers)
        image = _share(before.quality, outcome.quality, config.index_psnr, config.index_identity)
        return max(change / config.index_features, image, self._lost_of_whole(before.quality, outcome.quality))

    def _lost_of_whole(self, before: Quality, after: Quality) -> float:
        return _share(before, after, self.config.total_psnr, self.config.total_identity)


def _share(before: Quality, after: Quality, psnr: float, identity: float) -> float:
    """What is lost from `before` to `after`, as a share of both limits: above 1, it is too much."""
    shares = [(before.psnr - after.psnr) / psnr]
    if after.identity is not None:
        shares.append((after.identity - before.identity) / identity)
    return max(shares)
