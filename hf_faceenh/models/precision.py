"""What stays in float32 while a network computes in half precision, or under autocast.

The maps and the convolutions over them are in half precision: they are what costs time and memory. What is small and
loses by rounding stays in float32: sums of squares, the picture itself, and the first convolution that reads it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32 if it is in half precision, else as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def autocasts(device: torch.device) -> bool:
    """Whether autocast is on for the device; never for one that knows none, such as meta."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def without_autocast(tensor: torch.Tensor) -> AbstractContextManager:
    """Within it, what is computed on the tensor's device has the number type of its operands."""
    return torch.autocast(tensor.device.type, enabled=False) if autocasts(tensor.device) else nullcontext()


def map_dtype(weight: torch.Tensor) -> torch.dtype:
    """The number type of the maps that a convolution with this weight gives: autocast's where it is on."""
    return torch.get_autocast_dtype(weight.device.type) if autocasts(weight.device) else weight.dtype


class PictureConv2d(nn.Conv2d):
    """A network's first convolution, which reads the picture: never in bfloat16, neither weights nor arithmetic.

    Large weights that almost cancel each other look for edges; rounded to bfloat16's 8 bits they answer to smooth
    areas as well. In steps of 1/255, this layer caused 7 of the bundled enhancer's largest error of 8 in bfloat16, and
    1.3 of the bundled super-resolver's 1.4.
    Its output is in the number type of its weights: the caller converts it to that of the maps (`map_dtype`).
    """

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        def not_to_bfloat16(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device, torch.float32) if moved.dtype == torch.bfloat16 else moved

        return super()._apply(not_to_bfloat16, recurse)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        with without_autocast(picture):
            return super().forward(picture.to(self.weight.dtype))
