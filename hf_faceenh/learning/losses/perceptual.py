"""The distance that a vision model sees."""

import inspect
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hf_faceenh.learning.losses.base import FrozenLoss, freeze

LAYERS = (2, 4, 7, 11)  # hidden states of MobileNetV2


class PerceptualLoss(FrozenLoss):
    """Distance between the features of enhanced and sharp faces (Johnson et al. 2016), each position's feature vector
    scaled to length 1 as in LPIPS (Zhang et al. 2018), averaged over the chosen hidden states.

    Args:
        backbone: `transformers` vision model that takes ImageNet-normalised `pixel_values` and returns
            `hidden_states`, maps `[B, C, H, W]` or tokens `[B, N, C]`. It is frozen.
        layers: which of the hidden states to compare.

    Raises:
        ValueError: for a model that returns no hidden states of pictures, or too few.
    """

    def __init__(self, backbone: nn.Module, layers: Sequence[int] = LAYERS):
        super().__init__()
        self.backbone = freeze(backbone)
        self.layers = tuple(layers)
        self.options = {"output_hidden_states": True}
        if "interpolate_pos_encoding" in inspect.signature(backbone.forward).parameters:
            self.options["interpolate_pos_encoding"] = True  # lets a transformer take other sizes than its own
        self.register_buffer("mean", torch.tensor(IMAGENET_DEFAULT_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_DEFAULT_STD).view(1, 3, 1, 1), persistent=False)
        self._check()

    @torch.no_grad()
    def _check(self) -> None:
        name, hidden = type(self.backbone).__name__, None
        if getattr(self.backbone, "main_input_name", None) == "pixel_values":
            try:
                hidden = self.backbone(torch.zeros(1, 3, 64, 64, device=self.backbone.device), **self.options)
                hidden = hidden.hidden_states
            except (TypeError, AttributeError):  # it knows no such argument, or returns none
                hidden = None
        if not hidden or hidden[0].ndim not in (3, 4):
            raise ValueError(
                f"{name} is no perceptual backbone: it returns no hidden states of pictures. Take a transformers "
                "vision model, such as MobileNetV2Model or ResNetModel."
            )
        if not self.layers or not all(-len(hidden) <= layer < len(hidden) for layer in self.layers):
            raise ValueError(
                f"{name} has the hidden states 0 to {len(hidden) - 1}; asked for were "
                f"{', '.join(map(str, self.layers)) or 'none'}. Choose others with loss.perceptual_layers."
            )

    def features(self, faces: torch.Tensor) -> list[torch.Tensor]:
        """`[B, C, …]` per chosen hidden state, each position's vector of length 1."""
        hidden = self.backbone(((faces + 1) / 2 - self.mean) / self.std, **self.options).hidden_states
        chosen = [hidden[layer].float() for layer in self.layers]
        return [F.normalize(maps.transpose(1, 2) if maps.ndim == 3 else maps, dim=1) for maps in chosen]

    def forward(self, enhanced: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = self.features(hq)
        pairs = zip(self.features(enhanced), target, strict=True)
        return torch.stack([(a - b).square().sum(dim=1).mean() for a, b in pairs]).mean()
