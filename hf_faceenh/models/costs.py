"""What a network costs: its parameters and its multiply-accumulates."""

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode


def parameter_count(network: torch.nn.Module) -> int:
    """How many numbers its parameters hold."""
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_accumulates(network: torch.nn.Module, shape: Sequence[int]) -> int:
    """Multiply-accumulates of convolutions and matrix products for one input of `shape`. Counted on the meta device:
    nothing is computed, and `network` may be there already."""
    dtype = next(network.parameters()).dtype
    with torch.no_grad(), multiply_accumulates_within() as count:
        copy.deepcopy(network).to("meta")(torch.empty(*shape, dtype=dtype, device="meta"))
    return count()


@contextlib.contextmanager
def multiply_accumulates_within() -> Iterator[Callable[[], int]]:
    """Counts the same for all that is computed in the block; gives a function that returns the count."""
    with FlopCounterMode(display=False) as counter:
        yield lambda: counter.get_total_flops() // 2
