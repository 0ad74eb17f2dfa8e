"""The super-resolver that is trained, and its loss."""

import torch
import torch.nn.functional as F

from hf_faceenh.errors import explained
from hf_faceenh.models.super_resolver import CELL, ResidualBlock, SuperResolver

FLOOR = 1e-4  # of a crop's squared error in the loss: flat crops, at 40 dB and above, matter little


def load_super_resolver(name: str) -> SuperResolver:
    """From a folder or the Hub.

    Raises:
        ValueError: in one line, where there is none.
    """
    with explained(f"{name}: not a SuperResolver", of=(OSError, ValueError)):
        return SuperResolver.from_pretrained(name)


def make_super_resolver(**config) -> SuperResolver:
    """A new one, with the arguments of `SuperResolver`.

    It starts near plain upscaling, with signals that keep their size (He et al. 2015): PyTorch's default lets them
    fade, and the first thousands of steps are lost.
    """
    model = SuperResolver(**config)
    if model.config.architecture == "cells":
        return _near_bilinear(model)
    convolutions = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer in convolutions:
        torch.nn.init.kaiming_normal_(layer.weight, a=0.25)  # the slope that PReLU starts with
        torch.nn.init.zeros_(layer.bias)
    ends = [layer.conv2 for layer in model.modules() if isinstance(layer, ResidualBlock)]
    with torch.no_grad():
        for layer in (*ends, convolutions[-1]):  # what is added to something begins small
            layer.weight.mul_(0.1)
    return model


@torch.no_grad()
def _near_bilinear(model: SuperResolver) -> SuperResolver:
    """Its linear upscaling is bilinear interpolation; its convolutions hand on what they get, so that the first steps
    teach all of them, and add a little of their own."""
    torch.nn.init.kaiming_normal_(model.conv_first.weight)
    torch.nn.init.zeros_(model.conv_first.bias)
    for layer in (*model.body, *model.details.values()):
        torch.nn.init.kaiming_normal_(layer.weight)
        layer.weight.mul_(0.1)
        torch.nn.init.zeros_(layer.bias)
    for layer in model.body:
        layer.weight[:, :, 1, 1] += torch.eye(len(layer.weight))
    for scale, layer in model.linear.items():
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        layer.weight[:, : 3 * CELL**2] = _bilinear(int(scale))
    return model


def _bilinear(scale: int) -> torch.Tensor:
    """Bilinear interpolation as a convolution from cells to cells, `[3r², 3·4, 3, 3]`: what it makes of each pixel."""
    side = 3 * CELL
    pixels = torch.eye(side**2).reshape(-1, 1, side, side)
    large = F.interpolate(pixels, scale_factor=scale, mode="bilinear")
    middle = large[..., CELL * scale : -CELL * scale, CELL * scale : -CELL * scale].flatten(1)  # [36, r²]
    kernel = middle.T.reshape(-1, 3, CELL, 3, CELL).permute(0, 2, 4, 1, 3).flatten(1, 2)  # [r², 4, 3, 3]
    weight = kernel.new_zeros(3, len(kernel), 3, CELL**2, 3, 3)
    for colour in range(3):
        weight[colour, :, colour] = kernel
    return weight.flatten(2, 3).flatten(0, 1)


def psnr_of(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """In dB, the mean over a batch of crops. As a loss (NAFNet, Chen et al. 2022) it weighs soft crops, whose errors
    are small, like busy ones; an L1 loss leaves clean pictures almost as bicubic upscaling does."""
    errors = (images - targets).square().mean(dim=(1, 2, 3))
    return -10 * (errors + FLOOR).log10().mean()
