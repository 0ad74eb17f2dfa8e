"""What a network costs: its parameters and its multiply-accumulates."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode


def parameter_count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_accumulates(network: torch.nn.Module, shape: Sequence[int], **arguments) -> int:
    """Multiply-accumulates of convolutions and matrix products for one input of `shape`, and `arguments` of `forward`.
    Counted on the meta device: nothing is computed, and `network` may be there already."""
    parameter = next(network.parameters())
    if not parameter.is_meta:
        network = copy.deepcopy(network).to("meta")
    with torch.no_grad(), multiply_accumulates_within() as count:
        network(torch.empty(*shape, dtype=parameter.dtype, device="meta"), **arguments)
    return count()


@contextlib.contextmanager
def multiply_accumulates_within() -> Iterator[Callable[[], int]]:
    """Counts those of all convolutions and matrix products in the block; gives a function that says how many."""
    with FlopCounterMode(display=False) as counter:
        yield lambda: counter.get_total_flops() // 2
