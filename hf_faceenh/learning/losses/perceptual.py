"""The distance that a vision model sees."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from hf_faceenh.learning.losses.base import Frozen
from hf_faceenh.learning.losses.vision import VisionFeatures

LAYERS = (2, 4, 7, 11)  # hidden states of MobileNetV2


class PerceptualLoss(Frozen):
    """Distance between the features of enhanced and sharp faces (Johnson et al. 2016), each position's feature vector
    scaled to length 1 as in LPIPS (Zhang et al. 2018), averaged over the chosen hidden states.

    Args:
        backbone: see `VisionFeatures`. It is frozen.
        layers: which of the hidden states to compare.

    Raises:
        ValueError: for a model that returns no hidden states of pictures, or too few.
    """

    def __init__(self, backbone: nn.Module, layers: Sequence[int] = LAYERS):
        super().__init__()
        self.vision = VisionFeatures(backbone, layers, option="loss.perceptual_layers")

    def features(self, faces: torch.Tensor) -> list[torch.Tensor]:
        """`[B, C, …]` per chosen hidden state, each position's vector of length 1."""
        chosen = self.vision(faces)
        return [F.normalize(maps.transpose(1, 2) if maps.ndim == 3 else maps, dim=1) for maps in chosen]

    def forward(self, enhanced: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = self.features(hq)
        pairs = zip(self.features(enhanced), target, strict=True)
        return torch.stack([(a - b).square().sum(dim=1).mean() for a, b in pairs]).mean()
