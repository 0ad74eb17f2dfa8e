"""What training minimises. Faces are `[B, 3, S, S]` RGB in [-1, 1]."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModel

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def relative_l1(enhanced: torch.Tensor, hq: torch.Tensor, lq: torch.Tensor, floor: float = 0.02) -> torch.Tensor:
    """The logarithm of each face's mean absolute error, relative to its poor input's, averaged over the batch.

    0: no better than the input; below 0: better. An absolute error lets the heavily damaged faces, whose error is ten
    times larger, decide alone, and the network learns to smooth good faces as well. Here a tenth less error counts the
    same on every face, and harming a good face costs as much as healing a poor one gains. The logarithm, unlike the
    bare ratio, bounds what one face with an almost perfect input can do to a step. `floor` keeps errors that nobody
    sees (0.02 of the range of 2) from counting.
    """
    error = (enhanced - hq).abs().mean(dim=(1, 2, 3)) + floor
    return (error / ((lq - hq).abs().mean(dim=(1, 2, 3)) + floor)).log().mean()


class PerceptualLoss(nn.Module):
    """Distance between the features of enhanced and sharp faces (Johnson et al. 2016), each position's feature vector
    scaled to length 1 as in LPIPS (Zhang et al. 2018), averaged over the chosen hidden states.

    Args:
        backbone: name or folder of a `transformers` vision model that takes ImageNet-normalised `pixel_values` and
            returns convolutional `hidden_states`.
        layers: which of them to compare.
    """

    def __init__(self, backbone: str, layers: tuple[int, ...] = (2, 4, 7, 11)):
        super().__init__()
        self.backbone = AutoModel.from_pretrained(backbone, dtype=torch.float32).eval().requires_grad_(False)
        self.layers = layers
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def features(self, faces: torch.Tensor) -> list[torch.Tensor]:
        hidden = self.backbone(((faces + 1) / 2 - self.mean) / self.std, output_hidden_states=True).hidden_states
        return [F.normalize(hidden[layer], dim=1) for layer in self.layers]

    def forward(self, enhanced: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = self.features(hq)
        pairs = zip(self.features(enhanced), target, strict=True)
        return torch.stack([(a - b).square().sum(dim=1).mean() for a, b in pairs]).mean()
