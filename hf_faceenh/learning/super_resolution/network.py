"""The super-resolver that is trained, and its loss."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from hf_faceenh.errors import explained
from hf_faceenh.models.super_resolver import CELL, ResidualBlock, SuperResolver

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
        # what is added to something begins small
        for layer in (*ends, *(model.details.values() if model.config.architecture == "cells" else convolutions[-1:])):
            layer.weight.mul_(0.1)
    if model.config.architecture == "cells":
        _make_bilinear(model)
    return model


@torch.no_grad()
def as_cells(residual: SuperResolver, scales: Sequence[int], denoising: bool) -> SuperResolver:
    """A "residual" network as one of "cells", to go on from: at its own scale it computes the same but for the
    picture's rim; at others its details are spread over more pixels; the amount of denoising does not matter yet."""
    config = {name: residual.config[name] for name in ("scale", "num_feat", "num_block", "anti_ringing", "license")}
    model = SuperResolver("cells", **config, scales=scales, denoising=denoising)
    _make_bilinear(model)
    model.body.load_state_dict(residual.body.state_dict())
    torch.nn.init.zeros_(model.conv_first.weight)
    model.conv_first.weight[:, : 3 * CELL**2] = residual.conv_first.weight
    model.conv_first.bias.copy_(residual.conv_first.bias)
    for scale, layer in model.details.items():
        layer.weight.copy_(_spread(residual.conv_last.weight, config["scale"], int(scale)))
        layer.bias.copy_(_spread(residual.conv_last.bias, config["scale"], int(scale)))
    return model


def _spread(weight: torch.Tensor, scale: int, wanted: int) -> torch.Tensor:
    """Weights of a cell's `[3·(2·scale)², …]` pixels → those of `[3·(2·wanted)², …]` pixels, each the nearest's."""
    pixels = weight.reshape(3, CELL * scale, CELL * scale, *weight.shape[1:])
    nearest = torch.arange(CELL * wanted) * scale // wanted
    return pixels[:, nearest][:, :, nearest].reshape(-1, *weight.shape[1:])


@torch.no_grad()
def _make_bilinear(model: SuperResolver) -> None:
    """Its linear upscaling becomes bilinear interpolation."""
    for scale, layer in model.linear.items():
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        layer.weight[:, : 3 * CELL**2] = _bilinear(int(scale))


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
