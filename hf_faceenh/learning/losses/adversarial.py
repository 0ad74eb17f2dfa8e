"""The losses of the discriminator's logits: the enhancer's and the discriminator's own, with R1."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from hf_faceenh.learning.losses.base import ERROR_FLOOR, face_errors


def generator_logistic(logits: torch.Tensor) -> torch.Tensor:
    """The non-saturating loss (Goodfellow et al. 2014) of each logit of enhanced faces: −log σ."""
    return F.softplus(-logits.float())


def discriminator_logistic(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """The logistic loss: of the discriminator's logits for sharp (`real`) and for enhanced (`fake`) faces."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def generator_hinge(logits: torch.Tensor) -> torch.Tensor:
    """What goes with the hinge loss (Lim & Ye 2017), of each logit of enhanced faces: its negative."""
    return -logits.float()


def discriminator_hinge(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """The hinge loss (Lim & Ye 2017): nothing more to learn from sharp faces above 1 and enhanced ones below −1."""
    return F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()


@dataclass(frozen=True)
class Game:
    """How enhancer and discriminator play against each other.

    Args:
        generator: loss of each of the discriminator's logits for enhanced faces.
        discriminator: loss of its logits for sharp and for enhanced faces.
        penalised: whether it takes the R1 penalty; else something else keeps it smooth.
    """

    generator: Callable[[torch.Tensor], torch.Tensor]
    discriminator: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    penalised: bool


GAMES = {  # by the discriminator's kind, as published
    "gpen": Game(generator_logistic, discriminator_logistic, penalised=True),
    "projected": Game(generator_hinge, discriminator_hinge, penalised=False),
}


def damage_weights(hq: torch.Tensor, lq: torch.Tensor, power: float) -> torch.Tensor:
    """How much each face counts, `[B]` with the mean 1: its degraded version's error (as in `relative_l1`) to the
    `power`. Above 0 damaged faces count more, below 0 good ones."""
    weights = (face_errors(lq, hq) + ERROR_FLOOR) ** power
    return weights / weights.mean()


def feature_distance(enhanced: Sequence[torch.Tensor], hq: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean absolute difference of a discriminator's hidden features (Wang et al. 2018, pix2pixHD), averaged over
    them."""
    return torch.stack([F.l1_loss(a.float(), b.float()) for a, b in zip(enhanced, hq, strict=True)]).mean()


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
