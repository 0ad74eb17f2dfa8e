"""The parts of VQGAN (Esser et al. 2021, "Taming Transformers for High-Resolution Image Synthesis") that CodeFormer
and RestoreFormer are made of. All maps are `[B, C, r, r]`."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from .precision import PictureConv2d, map_dtype


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


def swish(hidden: torch.Tensor) -> torch.Tensor:
    return F.silu(hidden, inplace=True)


class ResidualBlock(nn.Module):
    """Twice norm, swish and a 3×3 convolution; plus the input, through a 1×1 convolution where the widths differ."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        change = self.conv2(swish(self.norm2(self.conv1(swish(self.norm1(hidden))))))
        return change.add_(self.shortcut(hidden))


class Attention(nn.Module):
    """Every place looks at all places; plus the input.

    Args:
        channels: of input and output.
        heads: of equal width.
        guided: queries come from a second map, normalised on its own (cross-attention).
    """

    def __init__(self, channels: int, heads: int = 1, guided: bool = False):
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.guide_norm = group_norm(channels) if guided else None
        self.q, self.k, self.v, self.proj_out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, hidden: torch.Tensor, guide: torch.Tensor | None = None) -> torch.Tensor:
        places = as_places(self.norm(hidden))  # [B, r², C]
        seekers = places if guide is None else as_places(self.guide_norm(guide))
        q, k, v = (
            tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for tokens in (self.q(seekers), self.k(places), self.v(places))
        )  # [B, heads, r², C / heads]
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return hidden + as_map(self.proj_out(found))


def as_places(maps: torch.Tensor) -> torch.Tensor:
    """`[B, C, r, r]` → `[B, r², C]`."""
    return maps.flatten(2).mT


def as_map(places: torch.Tensor) -> torch.Tensor:
    """`[B, r², C]` → `[B, C, r, r]`, channels last."""
    side = round(int(places.shape[1]) ** 0.5)  # int: not a traced number, which ONNX cannot round
    return places.mT.unflatten(2, (side, side))


class Downsample(nn.Module):
    """A 3×3 convolution of stride 2 that looks to the right and below."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(hidden, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour × 2, then a 3×3 convolution; in single precision both at once.

    The nine pixels that the convolution sees are copies of four, whose weights add up: a transposed convolution with
    4×4 weights. It needs four of nine multiply-accumulates, and the upscaled map is never made.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        half = torch.finfo(map_dtype(self.conv.weight)).bits < 32  # where the sums would be rounded once more
        if half or torch.onnx.is_in_onnx_export():  # which wants weights that are not computed
            return self.conv(F.interpolate(hidden, scale_factor=2, mode="nearest"))
        kernel = self.conv.weight.flip(2, 3)
        kernel = F.pad(kernel, (0, 0, 1, 0)) + F.pad(kernel, (0, 0, 0, 1))
        kernel = F.pad(kernel, (1, 0)) + F.pad(kernel, (0, 1))
        return F.conv_transpose2d(hidden, kernel.transpose(0, 1), self.conv.bias, stride=2, padding=1)


MakeAttention = Callable[[int], Attention]  # of a number of channels


def stage(in_channels: int, channels: int, blocks: int, attention: MakeAttention | None) -> nn.Sequential:
    """One resolution: residual blocks, each followed by attention, if any."""
    layers = []
    for _ in range(blocks):
        layers.append(ResidualBlock(in_channels, channels))
        if attention is not None:
            layers.append(attention(channels))
        in_channels = channels
    return nn.Sequential(*layers)


def stages(channels: Sequence[int], blocks: int, attention: Sequence[MakeAttention | None]) -> nn.ModuleList:
    """One `stage` for each resolution, of so many channels; the first also gets as many."""
    before = (channels[0], *channels)
    return nn.ModuleList(map(stage, before, channels, [blocks] * len(channels), attention))


def middle(channels: int, attention: MakeAttention) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(channels, channels), attention(channels), ResidualBlock(channels, channels))


class Encoder(nn.Module):
    """`[B, 3, S, S]` → a map to be replaced by codes, `[B, code_channels, s, s]`, and the features on the way: each
    resolution's last, from S down, then the outputs of the middle's first and last block.

    Args:
        channels: of the features at S, S/2, …, s. Two residual blocks each; at s, attention after each of them.
        code_channels: of the result.
        heads: of the attention.
        activated: swish before the last convolution.
    """

    def __init__(self, channels: Sequence[int], code_channels: int, heads: int = 1, activated: bool = True):
        super().__init__()
        self.stem = PictureConv2d(3, channels[0], 3, padding=1)
        attention = partial(Attention, heads=heads)
        self.stages = stages(channels, 2, [None] * (len(channels) - 1) + [attention])
        self.downs = nn.ModuleList(Downsample(width) for width in channels[:-1])
        self.middle = middle(channels[-1], attention)
        self.norm = group_norm(channels[-1])
        self.activated = activated
        self.conv_out = nn.Conv2d(channels[-1], code_channels, 3, padding=1)

    def forward(self, sample: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        hidden = self.stem(sample).to(map_dtype(self.conv_out.weight))
        features = []
        for blocks, down in zip(self.stages, (*self.downs, nn.Identity()), strict=True):
            features.append(blocks(hidden))
            hidden = down(features[-1])
        first, attention, last = self.middle
        features.append(first(hidden))
        features.append(last(attention(features[-1])))
        hidden = self.norm(features[-1])
        return self.conv_out(swish(hidden) if self.activated else hidden), features


class Decoder(nn.Module):
    """What codes become an image with. The order of its layers is that of `Encoder`, backwards; how features of the
    encoder join them is for the heirs to say.

    Args:
        channels: at s, 2s, …, S.
        code_channels: of the input, `[B, code_channels, s, s]`.
        blocks: residual blocks per resolution.
        attended: the first so many resolutions have attention after each residual block.
        attention: makes each of them.
    """

    def __init__(
        self, channels: Sequence[int], code_channels: int, blocks: int, attended: int, attention: MakeAttention
    ):
        super().__init__()
        self.conv_in = nn.Conv2d(code_channels, channels[0], 3, padding=1)
        self.middle = middle(channels[0], attention)
        self.stages = stages(channels, blocks, [attention] * attended + [None] * (len(channels) - attended))
        self.ups = nn.ModuleList(Upsample(width) for width in channels[:-1])
        self.norm = group_norm(channels[-1])
        self.conv_out = nn.Conv2d(channels[-1], 3, 3, padding=1)
