"""The losses of the discriminator's logits: the enhancer's and the discriminator's own, with R1."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn


def generator_adversarial(logits: torch.Tensor) -> torch.Tensor:
    """The non-saturating loss (Goodfellow et al. 2014): −log σ of the discriminator's logits for enhanced faces."""
    return F.softplus(-logits.float()).mean()


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """The logistic loss: of the discriminator's logits for sharp (`real`) and for enhanced (`fake`) faces."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def r1_penalty(discriminator: nn.Module, hq: torch.Tensor) -> torch.Tensor:
    """Half the squared gradient of the discriminator's logit at sharp faces (Mescheder et al. 2018); its weight is
    then their γ, and StyleGAN2's. In float32 also under autocast: a gradient of gradients has no loss scaling."""
    hq = hq.detach().float().requires_grad_(True)
    with torch.autocast(hq.device.type, enabled=False), torch.enable_grad():
        (gradient,) = torch.autograd.grad(discriminator(hq).logits.sum(), hq, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() / 2


@contextmanager
def parameters_frozen(network: nn.Module) -> Iterator[None]:
    """What is computed within it gives the network's parameters no gradient."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
