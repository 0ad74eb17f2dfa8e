"""Gradients of a network with and without gradient checkpointing."""

from collections.abc import Callable

import torch


def with_and_without_checkpointing(
    make: Callable[[], torch.nn.Module], loss: Callable[[torch.nn.Module], torch.Tensor]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Those of all parameters of a network that `make` makes twice alike: plain, and checkpointed."""
    gradients = []
    for checkpointing in (False, True):
        model = make().train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        loss(model).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    return tuple(gradients)
