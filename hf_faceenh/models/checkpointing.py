"""Gradient checkpointing, as diffusers' `enable_gradient_checkpointing` turns it on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def checkpointed(network: nn.Module, block: Callable, *arguments: Any) -> Any:
    """`block(*arguments)`; where checkpointing is on for `network`, its maps are computed again for the gradient
    instead of being kept."""
    if torch.is_grad_enabled() and network.gradient_checkpointing:
        return network._gradient_checkpointing_func(block, *arguments)
    return block(*arguments)
