"""A reduction ratio for every layer: what its channels cost, and how much of them goes.

A *ratio* is the share of a layer's channels that is removed, and leaves a multiple of channels.
"""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from operator import itemgetter

import torch

from hf_faceenh.learning.reduction.config import ReductionConfig
from hf_faceenh.learning.reduction.trials import Ratios
from hf_faceenh.models.channels import Reducible, reduced_config
from hf_faceenh.models.costs import multiply_accumulates

STEP = 1 / 6  # of a layer's channels; wide layers take larger steps than to the next multiple, for time's sake


# Multiply-accumulates


def macs(model: Reducible, widths: Mapping[str, int] | None = None) -> int:
    """Multiply-accumulates for one face, of `model` or of one like it with other `widths` (layer → channels)."""
    return _counted(type(model), json.dumps(reduced_config(model, widths or {})))


@lru_cache(maxsize=10_000)  # a count takes a tenth of a second, and a reduction asks for the same ones again and again
def _counted(kind: type[Reducible], config: str) -> int:
    with torch.device("meta"):
        network = kind(**json.loads(config))
    side = network.config.sample_size
    return multiply_accumulates(network, (1, 3, side, side))


def macs_left(model: Reducible, ratios: Ratios) -> int:
    """Those of `model` when its layers are reduced by `ratios`."""
    groups = model.channel_groups()
    return macs(model, {group.name: round(group.width * (1 - ratios.get(group.name, 0))) for group in groups})


def check_target(model: Reducible, config: ReductionConfig, first_macs: int) -> None:
    """
    Raises:
        ValueError: where even the narrowest layers leave more multiply-accumulates than the target.
    """
    widths = {}
    for group in model.channel_groups():
        width = group.width
        while (ratio := least_ratio(width, config)) <= config.largest_ratio:
            width = round(width * (1 - ratio))
        widths[group.name] = width
    least = macs(model, widths) / first_macs
    if least > config.target:
        raise ValueError(
            f"reduction.target {config.target:g} cannot be reached: with multiple {config.multiple} and largest_ratio "
            f"{config.largest_ratio:g}, {least:.3g} of the multiply-accumulates stay. Raise target or lower multiple."
        )


# One layer


def fitting_ratio(width: int, ratio: float, config: ReductionConfig) -> float:
    """The largest ratio, at most `ratio` and the largest allowed, that leaves a multiple of channels; or 0."""
    ratio = min(ratio, config.largest_ratio)
    stays = math.ceil(width * (1 - ratio) / config.multiple - 1e-6) * config.multiple
    return max(width - stays, 0) / width


def least_ratio(width: int, config: ReductionConfig) -> float:
    """The ratio of the smallest step down to a multiple; 1 where there is none."""
    stays = (width - 1) // config.multiple * config.multiple
    return (width - stays) / width


def one_step_more(width: int, ratio: float, config: ReductionConfig) -> float:
    """`ratio` and the smallest step down to a multiple; `ratio` itself where there is none."""
    stays = round(width * (1 - ratio))
    more = 1 - (1 - ratio) * (1 - least_ratio(stays, config))
    return more if more <= min(config.largest_ratio, 1 - 1 / width) else ratio


def next_ratio(width: int, ratio: float, config: ReductionConfig) -> float:
    """The ratio after `ratio` in a layer that is reduced in steps, of `STEP` or the smallest there is; `ratio` itself
    where there is none."""
    return max(one_step_more(width, ratio, config), fitting_ratio(width, ratio + STEP, config))


# All layers


def uniform_ratios(model: Reducible, wanted: float, config: ReductionConfig) -> dict[str, float]:
    """One ratio for all layers, found by bisection: the smallest that leaves no more than `wanted`
    multiply-accumulates, or the largest there is.

    At one ratio many layers may take their next step, and one step may save much more than is still wanted. So they
    take it one by one, from the first layer on, and the last step is the smallest that is enough.
    """
    groups = model.channel_groups()

    def ratios(ratio: float) -> dict[str, float]:
        return {group.name: fitting_ratio(group.width, ratio, config) for group in groups}

    low, high = 0.0, config.largest_ratio
    for _ in range(10):  # 10 bisections place the ratio within 0.0005
        middle = (low + high) / 2
        if macs_left(model, ratios(middle)) > wanted:
            low = middle
        else:
            high = middle
    chosen, following = ratios(low), ratios(high)
    while macs_left(model, chosen) > wanted and chosen != following:
        steps = [chosen | {group.name: one_step_more(group.width, chosen[group.name], config)} for group in groups]
        if enough := [(left, step) for step in steps if (left := macs_left(model, step)) <= wanted]:
            return max(enough, key=itemgetter(0))[1]
        first = next(name for name in chosen if chosen[name] < following[name])
        chosen = chosen | {first: following[first]}
    return chosen
