"""What a network costs: its parameters and its multiply-accumulates."""

import copy
from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode


def parameter_count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def multiply_accumulates(network: torch.nn.Module, shape: Sequence[int]) -> int:
    """Those of convolutions and matrix products for one input of `shape`. Counted on the meta device: nothing is
    computed, and `network` may be there already."""
    dtype = next(network.parameters()).dtype
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(network).to("meta")(torch.empty(*shape, dtype=dtype, device="meta"))
    return counter.get_total_flops() // 2
