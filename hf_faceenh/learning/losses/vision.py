"""What a pretrained vision model sees in faces."""

import inspect
from collections.abc import Sequence

import torch
from torch import nn
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hf_faceenh.learning.losses.base import Frozen, freeze


class VisionFeatures(Frozen):
    """Chosen hidden states of a vision model, for faces `[B, 3, S, S]` in [-1, 1].

    Args:
        backbone: `transformers` vision model that takes ImageNet-normalised `pixel_values` and returns
            `hidden_states`, maps `[B, C, H, W]` or tokens `[B, N, C]`. It is frozen.
        layers: which of the hidden states.
        option: name of the setting that chooses the layers, for messages.

    Raises:
        ValueError: for a model that returns no hidden states of pictures, or too few.
    """

    def __init__(self, backbone: nn.Module, layers: Sequence[int], option: str):
        super().__init__()
        self.backbone = freeze(backbone)
        self.layers = tuple(layers)
        self.options = {"output_hidden_states": True}
        if "interpolate_pos_encoding" in inspect.signature(backbone.forward).parameters:
            self.options["interpolate_pos_encoding"] = True  # lets a transformer take other sizes than its own
        self.register_buffer("mean", torch.tensor(IMAGENET_DEFAULT_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_DEFAULT_STD).view(1, 3, 1, 1), persistent=False)
        self._check(option)

    @torch.no_grad()
    def _check(self, option: str) -> None:
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
                f"{', '.join(map(str, self.layers)) or 'none'}. Choose others with {option}."
            )

    def forward(self, faces: torch.Tensor) -> list[torch.Tensor]:
        """The hidden states, in float32."""
        hidden = self.backbone(((faces + 1) / 2 - self.mean) / self.std, **self.options).hidden_states
        return [hidden[layer].float() for layer in self.layers]
