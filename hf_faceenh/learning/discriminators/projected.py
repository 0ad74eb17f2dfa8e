"""A discriminator on frozen features of a pretrained vision model (Sauer et al. 2021, "Projected GANs Converge
Faster").

What a discriminator learns from nothing on a few thousand pictures is little more than that sharp is not blurred. The
features of a network that has seen a million pictures already hold what tells an eye from a smear; what is left to
learn is small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from hf_faceenh.alignment import FFHQ_TEMPLATE
from hf_faceenh.learning.losses.vision import VisionFeatures

LAYERS = (1, 4, 11, 14)  # hidden states of MobileNetV2, one per resolution: S/4, S/8, S/16, S/32
SEED = 0  # of the random mixing, which is the same in every run and so need not be saved
REGIONS = 4  # logits along each side of a view
PART_SIDE = 160 / 512  # of eyes and mouth, in units of the face's side: brow and lids, or lips and their corners


@dataclass
class ProjectedOutput:
    """What a `ProjectedDiscriminator` returns.

    Args:
        logits: `[B, N]`, large where the faces look like sharp photographs: 16 regions × scales × views, so that
            their plain mean gives each scale and view the same weight.
        features: hidden maps of the heads, each `[B, C, h, w]` (`[2B, …]` those of eyes).
    """

    logits: torch.Tensor
    features: list[torch.Tensor]


class ProjectedDiscriminator(nn.Module):
    """Tells sharp photographs of faces from enhanced ones: `[B, 3, S, S]` RGB in [-1, 1] → logits of their regions.

    Frozen features of four resolutions are mixed by fixed random convolutions, across channels and, from coarse to
    fine, across scales, so that no few channels can decide (the paper's CCM and CSM). One small head per scale is
    trained; its convolutions are spectrally normalised. Only the heads have a `state_dict`.

    Args:
        backbone: as for `VisionFeatures`, with maps as hidden states. It is frozen.
        layers: which hidden states, finest first.
        width: channels of the mixed features and of the heads.
        parts: also look at both eyes (with the same heads, one mirrored) and at the mouth of aligned faces (as
            GFPGAN does, Wang et al. 2021), enlarged, each with as many logits as the whole face.
        grey: see no colours.
        side: px of the whole face as it is looked at, its parts at half of it; a larger face is reduced to it.

    Raises:
        ValueError: for a backbone without such hidden states.
    """

    def __init__(
        self,
        backbone: nn.Module,
        layers: Sequence[int] = LAYERS,
        width: int = 64,
        parts: bool = False,
        grey: bool = False,
        side: int = 512,
    ):
        super().__init__()
        self.grey, self.side = grey, side
        self.vision = VisionFeatures(backbone, layers, option="discriminator.layers")
        with torch.no_grad():
            maps = self.vision(torch.zeros(1, 3, 64, 64, device=backbone.device))
        if maps[0].ndim != 4:
            raise ValueError(
                f"{type(backbone).__name__} returns tokens; a projected discriminator needs maps: take a "
                "convolutional vision model, such as MobileNetV2Model or ResNetModel."
            )
        self.mixing = RandomMixing([scale.shape[1] for scale in maps], width)
        views = ("face", "eyes", "mouth") if parts else ("face",)
        self.heads = nn.ModuleDict({view: nn.ModuleList([Head(width) for _ in maps]) for view in views})

    def forward(self, faces: torch.Tensor) -> ProjectedOutput:
        if self.grey:
            faces = faces.mean(dim=1, keepdim=True).expand_as(faces)
        faces = faces.contiguous(memory_format=torch.channels_last)
        side = min(self.side, faces.shape[-1])
        outputs = self._judged("face", self.mixing(self.vision(F.adaptive_avg_pool2d(faces, side))))
        if "mouth" in self.heads:
            maps = self.mixing(self.vision(torch.cat(face_parts(faces, side // 2))))
            eyes = 2 * len(faces)  # left and right
            outputs += self._judged("eyes", [scale[:eyes] for scale in maps])
            outputs += self._judged("mouth", [scale[eyes:] for scale in maps])
        logits = [own for logits, _ in outputs for own in logits.split(len(faces))]
        return ProjectedOutput(torch.cat(logits, dim=1), [maps for _, features in outputs for maps in features])

    def _judged(self, view: str, maps: list[torch.Tensor]) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
        return [head(scale) for head, scale in zip(self.heads[view], maps, strict=True)]

    def state_dict(self, *args, **kwargs) -> dict:
        """That of the heads; all else is the backbone's or fixed."""
        return self.heads.state_dict(*args, **kwargs)

    def load_state_dict(self, state: dict, *args, **kwargs):
        return self.heads.load_state_dict(state, *args, **kwargs)


class RandomMixing(nn.Module):
    """Maps of several resolutions, finest first, → as many of `width` channels; fixed and random.

    1×1 convolutions mix the channels of a map; then, from the coarsest up, 3×3 convolutions mix it with the one
    before. Weights are Kaiming-normal (He et al. 2015).
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        generator = torch.Generator().manual_seed(SEED)
        self.across_channels = nn.ModuleList([fixed(nn.Conv2d(own, width, 1), generator) for own in channels])
        self.across_scales = nn.ModuleList([fixed(nn.Conv2d(width, width, 3, padding=1), generator) for _ in channels])

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        mixed, coarser = [], None
        for scale, one, three in reversed(list(zip(maps, self.across_channels, self.across_scales, strict=True))):
            own = one(scale)
            if coarser is not None:
                own = (own + F.interpolate(coarser, size=own.shape[-2:], mode="bilinear")) / 2**0.5
            coarser = three(own)
            mixed.insert(0, coarser)
        return mixed


def fixed(convolution: nn.Conv2d, generator: torch.Generator) -> nn.Conv2d:
    """The same with random weights that are not trained; linear, so without a gain for activations."""
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="linear", generator=generator)
    nn.init.zeros_(convolution.bias)
    return convolution.requires_grad_(False)


class Head(nn.Module):
    """The discriminator of one scale and view: `[B, width, r, r]` → logits `[B, 16]` of its regions, and its hidden
    maps.

    It sees little more than the frozen features' own surroundings, so that a smeared eye counts where it is.
    """

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.ModuleList(
            [spectral_norm(nn.Conv2d(width, width, 3, stride=stride, padding=1)) for stride in (1, 2)]
        )
        self.output = spectral_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        features = []
        for layer in self.layers:
            maps = F.leaky_relu(layer(maps), 0.2)
            features.append(maps)
        return F.adaptive_avg_pool2d(self.output(maps), REGIONS).flatten(1), features


def face_parts(faces: torch.Tensor, size: int) -> list[torch.Tensor]:
    """Image-left eye, image-right eye (mirrored) and mouth, `[B, 3, size, size]` each, of aligned `[B, 3, S, S]`."""
    side = faces.shape[-1]
    left, right, _, *corners = FFHQ_TEMPLATE
    mouth = tuple(sum(values) / 2 for values in zip(*corners, strict=True))
    extent = max(1, round(PART_SIDE * side))
    parts = []
    for x, y in (left, right, mouth):
        x, y = (round(value * side - extent / 2) for value in (x, y))
        part = faces[:, :, y : y + extent, x : x + extent]
        parts.append(F.interpolate(part, size=(size, size), mode="bilinear"))
    parts[1] = parts[1].flip(-1)
    return parts
