"""Layer after layer loses channels, with the earlier cuts in place; and the whole takes back what was too much."""

from dataclasses import dataclass

from hf_faceenh.learning.reduction.config import ReductionConfig
from hf_faceenh.learning.reduction.ratios import macs_left, next_ratio
from hf_faceenh.learning.reduction.trials import Outcome, Quality, Trials

LEAST = 0.01  # share of the index that a cut loses at least: a gain in quality is an accident of the few faces


@dataclass(frozen=True)
class Cut:
    """A layer's ratio raised from `before` to `ratio`, on top of the cuts that were in place.

    Args:
        layer: its name.
        before, ratio: share of its channels.
        outcome: of the network with it.
        lost: share of the layer's quality index that it uses up.
        lost_of_whole: likewise, of the limit for all layers together.
        saved: multiply-accumulates; negative or 0 where it saves none.
        order: how many cuts were in place.
    """

    layer: str
    before: float
    ratio: float
    outcome: Outcome
    lost: float
    lost_of_whole: float
    saved: int
    order: int


class Settlement:
    """The cuts of one round.

    Args:
        trials: of the unreduced network.
        config: indexes, limits, multiples.
    """

    def __init__(self, trials: Trials, config: ReductionConfig):
        self.trials, self.config = trials, config
        self.ratios: dict[str, float] = dict.fromkeys(trials.groups, 0.0)
        self.tried: dict[str, list[Cut]] = {layer: [] for layer in trials.groups}
        self.cuts: list[Cut] = []
        self.taken_back: list[Cut] = []
        self.whole = self.outcome = trials.outcome({})
        self.macs = macs_left(trials.model, {})

    def cut_cheapest(self, wanted: float) -> None:
        """Step by step, always the cheapest of all layers, until no more than `wanted` multiply-accumulates are left.

        A step's price is what it loses for each multiply-accumulate that it saves of those still to be saved. When its
        turn comes after others were cut, it is tried again, and waits for its next turn with the new price. A layer
        that has used up its index is left alone for the rest of the round.
        """
        offers = {cut.layer: cut for layer in self.ratios if (cut := self._next(layer))}

        def price(cut: Cut) -> float:
            return max(cut.lost, LEAST) / min(cut.saved, self.macs - wanted)

        while offers and self.macs > wanted:
            cut = min(offers.values(), key=price)
            if cut.order < len(self.cuts):  # priced before the last cut
                again = self._next(cut.layer)
            else:
                again = cut if self._accept(cut) else None  # as the first guess of what its next step costs
            if again:
                offers[cut.layer] = again
            else:
                del offers[cut.layer]

    def cut(self, layer: str, ratio: float) -> None:
        """One layer, whatever it loses."""
        self._add(self._try(layer, ratio))

    def take_back(self) -> None:
        """Takes cuts back until all together keep the limit: the most expensive first, by what it cost the whole for
        each multiply-accumulate that it saved."""
        while self.cuts and self._lost_of_whole(self.whole.quality, self.outcome.quality) > 1:
            last = {cut.layer: cut for cut in self.cuts}.values()  # of each layer: the others rest on nothing else
            dearest = max(last, key=lambda cut: cut.lost_of_whole / cut.saved)
            self.cuts.remove(dearest)
            self.taken_back.append(dearest)
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
            order=len(self.cuts),
        )
        self.tried[layer].append(cut)
        return cut

    def _accept(self, cut: Cut) -> bool:
        """Whether the layer's quality index allows the cut, which is then made."""
        accepted = cut.lost + sum(earlier.lost for earlier in self.cuts if earlier.layer == cut.layer) <= 1
        if accepted:
            self._add(cut)
        return accepted

    def _add(self, cut: Cut) -> None:
        self.cuts.append(cut)
        self.ratios[cut.layer], self.outcome, self.macs = cut.ratio, cut.outcome, self.macs - cut.saved

    def _lost(self, layer: str, outcome: Outcome) -> float:
        """The share of the quality index that a cut of the layer uses up: the worst of what its readers' maps and the
        final image lose."""
        before, config = self.outcome, self.config
        change = max(outcome.changes[name] - before.changes[name] for name in self.trials.groups[layer].readers)
        image = _share(before.quality, outcome.quality, config.index_psnr, config.index_identity)
        return max(change / config.index_features, image)

    def _lost_of_whole(self, before: Quality, after: Quality) -> float:
        return _share(before, after, self.config.total_psnr, self.config.total_identity)


def _share(before: Quality, after: Quality, psnr: float, identity: float) -> float:
    """What is lost from `before` to `after`, as a share of the limits `psnr` and `identity`: above 1, it is too much."""
    shares = [(before.psnr - after.psnr) / psnr]
    if after.identity is not None:
        shares.append((after.identity - before.identity) / identity)
    return max(shares)
