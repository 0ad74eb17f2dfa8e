"""The super-resolver that is trained, and its loss."""

import torch

from hf_faceenh.errors import explained
from hf_faceenh.models.super_resolver import ResidualBlock, SuperResolver

FLOOR = 1e-5  # of a crop's squared error in the loss: flat crops, at 50 dB and above, matter no more


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
    convolutions = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer in convolutions:
        torch.nn.init.kaiming_normal_(layer.weight, a=0.25)  # the slope that PReLU starts with
        torch.nn.init.zeros_(layer.bias)
    ends = [layer.conv2 for layer in model.modules() if isinstance(layer, ResidualBlock)]
    with torch.no_grad():
        for layer in (*ends, convolutions[-1]):  # what is added to something begins small
            layer.weight.mul_(0.1)
    return model


def psnr_of(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """In dB, the mean over a batch of crops. As a loss (NAFNet, Chen et al. 2022) it weighs soft crops, whose errors
    are small, like busy ones; an L1 loss leaves clean pictures almost as bicubic upscaling does."""
    errors = (images - targets).square().mean(dim=(1, 2, 3))
    return -10 * (errors + FLOOR).log10().mean()
