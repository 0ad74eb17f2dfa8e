"""What the losses share: frozen networks, weights and intervals, and errors relative to the degraded face's."""

from collections.abc import Mapping

import torch
from torch import nn

Terms = dict[str, torch.Tensor]  # name → scalar, unweighted

# Added to both sides of a relative error, of pixels in their range of 2 or of identity distances, so that differences
# too small to be seen do not count.
ERROR_FLOOR = 0.02


def face_errors(faces: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
    """Each face's mean absolute error: `[B, 3, S, S]` → `[B]`."""
    return (faces - hq).abs().mean(dim=(1, 2, 3))


def relative_error(error: torch.Tensor, before: torch.Tensor, floor: float = ERROR_FLOOR) -> torch.Tensor:
    """(error + floor) / (before + floor) of each face, `before` being its degraded input's error: 1 where nothing is
    gained."""
    return (error + floor) / (before + floor)


def freeze(network: nn.Module) -> nn.Module:
    """The same network in evaluation mode, its parameters without gradients."""
    return network.eval().requires_grad_(False)


class Frozen(nn.Module):
    """Stays in evaluation mode with all its networks, whatever mode is asked for."""

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)


class WeightedLoss(Frozen):
    """Terms with weights; those of weight 0 are left out.

    Args:
        weights: of all terms that there may be, by name.
        intervals: term → steps from one computation to the next; 1 for those not named.
    """

    def __init__(self, weights: Mapping[str, float], intervals: Mapping[str, int]):
        super().__init__()
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        self.intervals = {name: intervals.get(name, 1) for name in self.weights}

    def is_due(self, name: str, step: int) -> bool:
        return name in self.weights and step % self.intervals[name] == 0

    def total(self, terms: Terms) -> torch.Tensor:
        """The weighted sum, each term times its interval."""
        return torch.stack([self.weights[name] * self.intervals[name] * term for name, term in terms.items()]).sum()
