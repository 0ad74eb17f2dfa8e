"""GFPGAN as published, in its clean form (Wang et al. 2021, "Towards Real-World Blind Face Restoration with Generative
Facial Prior")."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .face_network import FaceEnhancerOutput, check_faces, check_resolutions, check_stages, face_output
from .gpen import published_channels
from .layers import ACTIVATION_GAIN, SLOPE, demodulation, feature_transform, modulated_rgb
from .precision import PictureConv2d, map_dtype
from .soundness import SoundWeights

Condition = tuple[torch.Tensor, torch.Tensor]  # scale and shift


def gfpgan_config(size: int = 512, style_dim: int = 512, channel_multiplier: int = 2, narrow: float = 1.0) -> dict:
    """The published code's arguments → the config of a `GFPGANFaceEnhancer`. Versions 1.2, 1.3 and 1.4 have the
    defaults."""
    channels = published_channels(size, channel_multiplier, narrow)
    return {
        "sample_size": size,
        "encoder_channels": tuple(channels[resolution] // 2 for resolution in sorted(channels, reverse=True)),
        "style_dim": style_dim,
        "constant_channels": channels[4],
        "decoder_channels": tuple((count,) * (1 if resolution == 4 else 2) for resolution, count in channels.items()),
    }


def lrelu(hidden: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(hidden, SLOPE, inplace=True)


def doubled(hidden: torch.Tensor) -> torch.Tensor:
    return F.interpolate(hidden, scale_factor=2, mode="bilinear")


def halved(hidden: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(hidden, 2)  # what bilinear interpolation to one half is


class HalvingBlock(nn.Module):
    """A residual block: `[B, in_channels, r, r]` → `[B, out_channels, r/2, r/2]`."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.skip(halved(hidden)).add_(lrelu(self.conv2(halved(lrelu(self.conv1(hidden))))))


class DoublingBlock(HalvingBlock):
    """A residual block: `[B, in_channels, r, r]` → `[B, out_channels, 2r, 2r]`."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        # The 1×1 convolution comes first, unlike in published code: the same result at a quarter of the cost.
        return doubled(self.skip(hidden)).add_(lrelu(self.conv2(doubled(lrelu(self.conv1(hidden))))))


class GFPGANConvolutionalNetwork(nn.Module):
    """The U-shaped degradation removal: `[B, 3, S, S]` → the 4×4 feature `[B, C, 4, 4]`, and for each resolution r
    from 8 to S a scale and a shift, `[B, C, r, r]`. `channels` are those at S, S/2, …, 4, on both ways."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.stem = PictureConv2d(3, channels[0], 1)
        down = list(zip(channels, channels[1:], strict=False))
        self.down = nn.ModuleList(HalvingBlock(a, b) for a, b in down)
        self.bottom = nn.Conv2d(channels[-1], channels[-1], 3, padding=1)
        self.up = nn.ModuleList(DoublingBlock(b, a) for a, b in reversed(down))
        self.scales = nn.ModuleList(feature_transform(a) for a, _ in reversed(down))
        self.shifts = nn.ModuleList(feature_transform(a) for a, _ in reversed(down))

    def forward(self, sample: torch.Tensor) -> tuple[torch.Tensor, list[Condition]]:
        hidden = lrelu(self.stem(sample).to(map_dtype(self.bottom.weight)))
        features = []
        for block in self.down:
            hidden = block(hidden)
            features.append(hidden)
        bottom = hidden = lrelu(self.bottom(hidden))
        conditions = []
        for block, feature, scale, shift in zip(self.up, reversed(features), self.scales, self.shifts, strict=True):
            hidden = block(hidden + feature)
            conditions.append((scale(hidden), shift(hidden)))
        return bottom, conditions


class GFPGANStyledConv2d(nn.Module):
    """A 3×3 convolution modulated by a style, then one channel of fixed noise, bias and activation.

    `[B, in_channels, r, r]` → `[B, out_channels, R, R]`, R = 2r = `size` with `upsample`, else r = `size`.

    As in `layers.StyledConv2d` the whole batch shares one convolution. Unlike there, learning rates are not equalised,
    and a map is interpolated before the convolution: what is modulated is the small one.
    """

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, size: int, upsample: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        self.modulation = nn.Linear(style_dim, in_channels)
        nn.init.ones_(self.modulation.bias)
        self.noise_weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        # Published code draws it anew each time. Kept, the same face always gives the same result.
        self.register_buffer("noise", torch.randn(1, 1, size, size))
        self.upsample = upsample

    def forward(self, hidden: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """Without gradients, `hidden` is overwritten: a new map costs more time than the arithmetic on it.

        Args:
            hidden: `[B, in_channels, r, r]`.
            style: `[B, style_dim]`.
        """
        modulation = self.modulation(style)
        gain = ACTIVATION_GAIN * demodulation(self.weight, modulation)[:, :, None, None]
        in_place = not torch.is_grad_enabled() and not torch.compiler.is_compiling()

        modulation = modulation[:, :, None, None]
        hidden = hidden.mul_(modulation) if in_place else hidden * modulation
        hidden = F.conv2d(doubled(hidden) if self.upsample else hidden, self.weight, padding=1)
        noise, gain = (self.noise_weight * self.noise).to(hidden.dtype), gain.to(hidden.dtype)
        hidden = torch.addcmul(noise, hidden, gain, out=hidden) if in_place else torch.addcmul(noise, hidden, gain)
        return lrelu(hidden.add_(self.bias[:, None, None]))


class GFPGANToRGB(nn.Module):
    """`[B, in_channels, r, r]` → `[B, 3, r, r]`, at least float32: a 1×1 convolution modulated by a style."""

    def __init__(self, in_channels: int, style_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, in_channels))
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        self.modulation = nn.Linear(style_dim, in_channels)
        nn.init.ones_(self.modulation.bias)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, hidden: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        return modulated_rgb(hidden, self.weight, self.modulation(style), self.bias)


class GFPGANGeneratingStage(nn.Module):
    """One resolution: styled convolutions (the first of two upscales, and is conditioned), and its addition to the
    image. Each layer has a style of its own; the to-RGB shares its style with the first layer of the next stage.

    `[B, in_channels, r/2, r/2]` → `[B, channels[-1], r, r]` and `[B, 3, r, r]`.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], style_dim: int, size: int):
        super().__init__()
        self.convolutions = nn.ModuleList()
        for count in channels:
            upsample = len(channels) == 2 and len(self.convolutions) == 0  # the first stage has one, at 4×4
            self.convolutions.append(GFPGANStyledConv2d(in_channels, count, style_dim, size, upsample))
            in_channels = count
        self.to_rgb = GFPGANToRGB(in_channels, style_dim)

    def forward(
        self, hidden: torch.Tensor, image: torch.Tensor | None, condition: Condition | None, styles: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        *layers, to_rgb = styles.unbind(1)
        for convolution, style in zip(self.convolutions, layers, strict=True):
            hidden = convolution(hidden, style)
            if convolution.upsample:
                hidden = conditioned(hidden, *condition)
        addition = self.to_rgb(hidden, to_rgb)
        return hidden, addition if image is None else doubled(image).add_(addition)


def conditioned(hidden: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """`[B, C, r, r]` whose last channels, as many as scale and shift have, become `channels · scale + shift`: GFPGAN's
    channel-split spatial feature transform. Without gradients, in place."""
    kept, changed = hidden.split([hidden.shape[1] - scale.shape[1], scale.shape[1]], dim=1)
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return torch.cat([kept, torch.addcmul(shift, changed, scale)], dim=1)
    torch.addcmul(shift, changed, scale, out=changed)
    return hidden


class GFPGANGeneratingNetwork(nn.Module):
    """A learned 4×4 constant, conditions and one style per layer → image `[B, 3, S, S]`, summed in float32."""

    def __init__(self, channels: Sequence[Sequence[int]], constant_channels: int, style_dim: int):
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, constant_channels, 4, 4))
        self.stages = nn.ModuleList()
        width = constant_channels
        for depth, counts in enumerate(channels):
            self.stages.append(GFPGANGeneratingStage(width, counts, style_dim, size=4 << depth))
            width = counts[-1]

    def forward(self, conditions: Sequence[Condition], styles: torch.Tensor) -> torch.Tensor:
        hidden = self.constant.repeat(styles.shape[0], 1, 1, 1).contiguous(memory_format=torch.channels_last)
        image, first = None, 0
        for stage, condition in zip(self.stages, (None, *conditions), strict=True):
            count = len(stage.convolutions)
            hidden, image = stage(hidden, image, condition, styles[:, first : first + count + 1])
            first += count
        return image


class GFPGANFaceEnhancer(SoundWeights, ModelMixin, ConfigMixin):
    """Restores aligned faces with GFPGAN's published network: `[B, 3, S, S]` RGB in [-1, 1] → the same, sharper.

    For published checkpoints of the versions 1.2, 1.3 and 1.4 (`hf_faceenh.convert`). `gfpgan_config` gives the config
    of the published code's arguments; the defaults are those of the published versions.

    Args:
        sample_size: side S of the faces in px, 4·2ⁿ.
        encoder_channels: channels of the convolutional network at S, S/2, …, 4, downwards and upwards. The last so
            many channels of the generating network's first convolution at a resolution are scaled and shifted.
        style_dim: features of each layer's style.
        constant_channels: channels of the learned 4×4 constant.
        decoder_channels: output channels of the generating network's convolutions, per resolution 4, 8, …, S: one at
            4, two at every other.
        license: what the weights may be used for, for `hf-faceenh info` and model cards.
    """

    _keep_in_fp32_modules = ["stem"]  # in from_pretrained; see PictureConv2d

    @register_to_config
    def __init__(
        self,
        sample_size: int = 512,
        encoder_channels: Sequence[int] = (32, 64, 128, 256, 256, 256, 256, 256),
        style_dim: int = 512,
        constant_channels: int = 512,
        decoder_channels: Sequence[Sequence[int]] = (
            (512,), (512, 512), (512, 512), (512, 512), (512, 512), (256, 256), (128, 128), (64, 64),
        ),
        license: str | None = None,
    ):  # fmt: skip
        super().__init__()
        check_resolutions(sample_size, encoder_channels, decoder_channels)
        check_stages(decoder_channels)
        for (first, *_), conditioned_channels in zip(decoder_channels[1:], encoder_channels[-2::-1], strict=True):
            if conditioned_channels > first:
                raise ValueError(
                    f"encoder_channels must not exceed decoder_channels at the same resolution; got "
                    f"{conditioned_channels} and {first}."
                )
        layers = sum(map(len, decoder_channels)) + 1  # and the last to-RGB
        self.convolutional_network = GFPGANConvolutionalNetwork(encoder_channels)
        self.mapping_network = nn.Linear(16 * encoder_channels[-1], layers * style_dim)
        self.generating_network = GFPGANGeneratingNetwork(decoder_channels, constant_channels, style_dim)

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> FaceEnhancerOutput | tuple[torch.Tensor]:
        """
        Args:
            sample: degraded faces, `[B, 3, S, S]` RGB in [-1, 1]. The result has their number type: a network in half
                precision loses least with faces in float32, which it converts itself after the first convolution.
            return_dict: return a `FaceEnhancerOutput`; else a tuple of its `sample`.

        Raises:
            ValueError: for another shape.
        """
        check_faces(self, sample)
        faces = sample.contiguous(memory_format=torch.channels_last)
        bottom, conditions = self.convolutional_network(faces)
        styles = self.mapping_network(bottom.flatten(1)).unflatten(1, (-1, self.config.style_dim))
        return face_output(self.generating_network(conditions, styles), sample, return_dict)
