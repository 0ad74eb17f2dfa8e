"""Removing channels from a network: which weights make and read a layer's channels, and the network without them.

A network names its layers with `channel_groups()`. A channel is *removed* when everything that makes it and everything
that reads it is gone; it is *masked* when the same numbers are 0. Both give the same image, because a leaky ReLU keeps
0 at 0. That holds for GPEN and GFPGAN too, whose arithmetic depends on their inputs in more places:

- demodulation divides by the norm of all weights that read: those of a removed channel no longer count. If only the
  channel's map were 0, as in a network that never uses it, the next convolution's output channels would be smaller by
  √(Σ over the kept inputs of (w·s)² / Σ over all of them), never larger;
- GPEN's noise feature gets a bias and an activation of its own after each concatenation: it goes with the channel;
- GPEN's equalised learning rate divides stored weights by √fan_in: `reduce_tensors` rescales them, so that the weights
  in effect stay;
- GFPGAN adds fixed noise to every channel, so that a masked one's map is not 0, but nothing reads it;
- GFPGAN adds up maps, such as the two ways through a residual block: a channel of a sum is removed from all of them.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

Keep = Mapping[str, torch.Tensor]  # name of a group → channels that stay, ascending, int64; those not named stay whole


@dataclass(frozen=True, slots=True)
class Slice:
    """Where a group's channels lie in one parameter: channel c has `repeat` entries, from start + c·repeat on.

    Args:
        parameter: its name in the network.
        dim: the dimension that counts channels.
        start: entry of the first channel, where others are concatenated before it.
        repeat: entries of one channel, 16 where a 4×4 map is flattened.
        equalized: the stored weight is divided by √fan_in when used, and `dim` is a part of that fan-in.
    """

    parameter: str
    dim: int
    start: int = 0
    repeat: int = 1
    equalized: bool = False


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """The output channels of one layer, or of layers whose outputs are added up, which are removed one by one.

    Args:
        name: of the layer in the network.
        part: which of the three networks it belongs to.
        resolution: side of its output in px; `None` for a linear layer.
        width: number of channels.
        path: where the width stands in the config, such as ("encoder_channels", 2, 1).
        producers: what makes the channels: weights and biases along their outputs.
        consumers: what reads them: weights along their inputs (dim 1), and what scales those inputs (dim 0).
    """

    name: str
    part: Literal["convolutional_network", "mapping_network", "generating_network"]
    resolution: int | None
    width: int
    path: tuple[str | int, ...]
    producers: tuple[Slice, ...]
    consumers: tuple[Slice, ...]

    @property
    def readers(self) -> list[str]:
        """The modules whose weights read the channels."""
        return [where.parameter.rpartition(".")[0] for where in self.consumers if where.dim == 1]


class Reducible(Protocol):
    """A diffusers model whose layers can lose channels."""

    def channel_groups(self) -> list[ChannelGroup]: ...


def constant_group(width: int, consumers: tuple[Slice, ...]) -> ChannelGroup:
    """The generating network's learned 4×4 constant."""
    return ChannelGroup(
        name="generating_network.constant",
        part="generating_network",
        resolution=4,
        width=width,
        path=("constant_channels",),
        producers=(Slice("generating_network.constant", 1),),
        consumers=consumers,
    )


def layer_outputs(layer: str) -> tuple[Slice, ...]:
    """The output channels of a layer that has `weight` and `bias`."""
    return Slice(f"{layer}.weight", 0), Slice(f"{layer}.bias", 0)


def layer_inputs(*layers: str) -> tuple[Slice, ...]:
    """The input channels of plain layers."""
    return tuple(Slice(f"{layer}.weight", 1) for layer in layers)


def modulated_inputs(layer: str, start: int = 0, equalized: bool = False) -> tuple[Slice, ...]:
    """Input channels of StyleGAN2's styled convolution or to-RGB, from `start` on."""
    return (
        Slice(f"{layer}.weight", 1, start, equalized=equalized),
        Slice(f"{layer}.modulation.weight", 0, start),
        Slice(f"{layer}.modulation.bias", 0, start),
    )


def styled_convolution(stage: int, index: int) -> str:
    """Its name, of the `index`-th at the resolution 4·2^`stage`."""
    return f"generating_network.stages.{stage}.convolutions.{index}"


def styled_readers(
    widths: Sequence[Sequence[int]], stage: int, index: int, start: int = 0, equalized: bool = False
) -> tuple[Slice, ...]:
    """What reads the output of a styled convolution, from channel `start` on: the next one; at the end of a stage the
    to-RGB too. `widths` has one entry per resolution, with one number per convolution."""
    if index + 1 < len(widths[stage]):
        return modulated_inputs(styled_convolution(stage, index + 1), start, equalized)
    readers = modulated_inputs(f"generating_network.stages.{stage}.to_rgb", start, equalized)
    if stage + 1 < len(widths):
        readers += modulated_inputs(styled_convolution(stage + 1, 0), start, equalized)
    return readers


def styled_convolution_group(
    widths: Sequence[Sequence[int]], stage: int, index: int, equalized: bool = False
) -> ChannelGroup:
    """The channels of a styled convolution that `widths`, the config's `decoder_channels`, counts."""
    layer = styled_convolution(stage, index)
    return ChannelGroup(
        name=layer,
        part="generating_network",
        resolution=4 << stage,
        width=widths[stage][index],
        path=("decoder_channels", stage, index),
        producers=layer_outputs(layer),
        consumers=styled_readers(widths, stage, index, equalized=equalized),
    )


def noise_feature_groups(groups: Sequence[ChannelGroup]) -> list[ChannelGroup]:
    """The layers whose outputs are the noise features, from S×S down to 4×4: the last of each resolution."""
    return list({group.resolution: group for group in groups if group.part == "convolutional_network"}.values())


def check_keep(groups: Sequence[ChannelGroup], keep: Keep) -> None:
    """Raises a `ValueError` unless `keep` names layers of `groups` and at least one channel of each, ascending."""
    widths = {group.name: group.width for group in groups}
    for name, channels in keep.items():
        if name not in widths:
            raise ValueError(f"There is no layer {name!r} to keep channels of; channel_groups() names all there are.")
        ascending = len(channels) > 0 and bool((channels[1:] > channels[:-1]).all())
        if not ascending or channels[0] < 0 or channels[-1] >= widths[name]:
            raise ValueError(
                f"The channels to keep of {name} must be at least one, ascending, from 0 to {widths[name] - 1}; "
                f"got {channels.tolist()}."
            )


def _removed_entries(groups: Sequence[ChannelGroup], keep: Keep) -> dict[str, dict[int, list[int]]]:
    """Parameter → dimension → entries that belong to removed channels."""
    check_keep(groups, keep)
    removed: dict[str, dict[int, list[int]]] = {}
    for group in (group for group in groups if group.name in keep):
        channels = sorted(set(range(group.width)) - set(keep[group.name].tolist()))
        for where in (*group.producers, *group.consumers):
            entries = removed.setdefault(where.parameter, {}).setdefault(where.dim, [])
            entries += [where.start + c * where.repeat + i for c in channels for i in range(where.repeat)]
    return removed


@contextmanager
def masked(model: Reducible, keep: Keep) -> Iterator[None]:
    """Within it, everything that makes or reads a removed channel is 0; afterwards all is as before."""
    removed = _removed_entries(model.channel_groups(), keep)
    parameters = {name: p for name, p in model.named_parameters() if name in removed}
    originals = {name: p.detach().clone() for name, p in parameters.items()}
    try:
        with torch.no_grad():
            for name, parameter in parameters.items():
                for dim, entries in removed[name].items():
                    parameter.index_fill_(dim, torch.tensor(entries, dtype=torch.long, device=parameter.device), 0)
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(originals[name])


def reduce_tensors(
    tensors: Mapping[str, torch.Tensor], model: Reducible, keep: Keep, power: int = 1
) -> dict[str, torch.Tensor]:
    """New tensors of the kept channels, from tensors that are laid out like the parameters of `model`.

    Args:
        tensors: by parameter name: weights, averaged weights, or an optimiser's moments.
        model: the unreduced network.
        keep: group → channels that stay.
        power: of the stored weight in the tensor, for an equalised learning rate: 1 for weights, -1 for gradients and
            their mean, -2 for the mean of their squares.
    """
    groups = model.channel_groups()
    removed = _removed_entries(groups, keep)
    equalized = {where.parameter for group in groups for where in group.consumers if where.equalized}
    reduced = {}
    for name, tensor in tensors.items():
        smaller = tensor.detach().clone()
        for dim, entries in removed.get(name, {}).items():
            stays = torch.ones(tensor.shape[dim], dtype=torch.bool)
            stays[entries] = False
            smaller = smaller.index_select(dim, stays.nonzero().flatten().to(tensor.device))
        if name in equalized:
            smaller *= math.sqrt(smaller[0].numel() / tensor[0].numel()) ** power
        reduced[name] = smaller
    return reduced


def reduced_config(model: Reducible, widths: Mapping[str, int]) -> dict:
    """The arguments of a network like `model` but of other `widths`, by group name."""
    # Without diffusers' own notes, which begin with _: one lists the arguments that may be left out as defaults.
    config = {name: _listed(value) for name, value in model.config.items() if not name.startswith("_")}
    for group in model.channel_groups():
        *path, last = group.path
        place = config
        for key in path:
            place = place[key]
        place[last] = widths.get(group.name, group.width)
    return config


def _listed(value):
    return [_listed(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def remove_channels(model: Reducible, keep: Keep) -> Reducible:
    """A new, smaller network of the same class, with its own config, that gives the image of the `masked` one.

    Raises:
        ValueError: where `keep` names an unknown layer, no channel, or one that is not there.
    """
    weights = reduce_tensors(model.state_dict(), model, keep)
    with torch.random.fork_rng(devices=[]):  # its first weights are random, and never used
        config = reduced_config(model, {name: len(channels) for name, channels in keep.items()})
        smaller = type(model)(**config)
    smaller.load_state_dict(weights, assign=True)  # which brings their device and number type
    return smaller.to(model.device).train(model.training)
