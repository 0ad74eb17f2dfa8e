"""GPEN as published (Yang et al. 2021, "GAN Prior Embedded Network for Blind Face Restoration in the Wild")."""

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .channels import (
    ChannelGroup,
    Slice,
    constant_group,
    layer_outputs,
    modulated_inputs,
    styled_convolution,
    styled_convolution_group,
    styled_readers,
)
from .checkpointing import checkpointed
from .face_network import ThreeNetworks, check_resolutions, check_stages
from .layers import EqualizedConv2d, EqualizedLinear, PixelNorm, StyledConv2d, ToRGB, Upsample
from .soundness import SoundWeights


def published_channels(size: int, channel_multiplier: int, narrow: float) -> dict[int, int]:
    """Resolution (4, 8, …, size) → channels, as in GPEN's published code."""
    channels = {resolution: 512 for resolution in (4, 8, 16, 32)}
    channels |= {2**i: 2 ** (14 - i) * channel_multiplier for i in range(6, 11)}
    return {resolution: int(count * narrow) for resolution, count in channels.items() if resolution <= size}


def gpen_config(
    size: int = 512, style_dim: int = 512, n_mlp: int = 8, channel_multiplier: int = 2, narrow: float = 1.0
) -> dict:
    """The published code's arguments → the config of a `GPENFaceEnhancer`.

    GPEN-BFR-512 is the default; GPEN-BFR-1024 has `size=1024`, GPEN-BFR-256 `size=256, channel_multiplier=1,
    narrow=0.5`.
    """
    channels = published_channels(size, channel_multiplier, narrow)
    return {
        "sample_size": size,
        "encoder_channels": tuple(channels[resolution] for resolution in sorted(channels, reverse=True)),
        "mapping_channels": (style_dim,) * (n_mlp + 1),
        "constant_channels": channels[4],
        "decoder_channels": tuple((count,) * (1 if resolution == 4 else 2) for resolution, count in channels.items()),
    }


class GPENConvolutionalNetwork(nn.Module):
    """`[B, 3, S, S]` → noise features: one map per resolution, S, S/2, …, 4, of `channels` channels."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.layers = nn.ModuleList([EqualizedConv2d(3, channels[0], 1)])
        self.layers += [
            EqualizedConv2d(a, b, 3, downsample=True) for a, b in zip(channels, channels[1:], strict=False)
        ]
        self.gradient_checkpointing = False

    def forward(self, sample: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = [sample.to(self.layers[0].weight.dtype)]
        for layer in self.layers:
            features.append(checkpointed(self, layer, features[-1]))
        return tuple(features[1:])


class GPENLinearMappingNetwork(nn.Sequential):
    """The flattened 4×4 noise feature `[B, 16·C]` → attribute feature `[B, channels[-1]]`."""

    def __init__(self, in_features: int, channels: Sequence[int]):
        super().__init__(
            EqualizedLinear(in_features, channels[0], activation=True),
            PixelNorm(),
            *(
                EqualizedLinear(a, b, lr_mul=0.01, activation=True)
                for a, b in zip(channels, channels[1:], strict=False)
            ),
        )


class GPENGeneratingStage(nn.Module):
    """One resolution: styled convolutions (the first of two upscales), and its addition to the image.

    `[B, in_channels, r/2, r/2]` → `[B, channels[-1] + noise_channels, r, r]` and `[B, 3, r, r]`.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], noise_channels: int, style_dim: int):
        super().__init__()
        self.upsample = Upsample() if len(channels) == 2 else None  # the first stage has one convolution, at 4×4
        self.convolutions = nn.ModuleList()
        for count in channels:
            upsample = self.upsample is not None and len(self.convolutions) == 0
            self.convolutions.append(StyledConv2d(in_channels, count, noise_channels, style_dim, upsample))
            in_channels = count + noise_channels
        self.to_rgb = ToRGB(in_channels, style_dim)

    def forward(
        self, hidden: torch.Tensor, image: torch.Tensor | None, noise: torch.Tensor, attribute: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        for convolution in self.convolutions:
            hidden = convolution(hidden, noise, attribute)
        addition = self.to_rgb(hidden, attribute)
        return hidden, addition if self.upsample is None else self.upsample(image) + addition


class GPENGeneratingNetwork(nn.Module):
    """A learned 4×4 constant, noise features and the attribute feature → image `[B, 3, S, S]`, summed in float32."""

    def __init__(
        self, channels: Sequence[Sequence[int]], noise_channels: Sequence[int], constant_channels: int, style_dim: int
    ):
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, constant_channels, 4, 4))
        self.stages = nn.ModuleList()
        width = constant_channels
        for counts, noise in zip(channels, noise_channels, strict=True):
            self.stages.append(GPENGeneratingStage(width, counts, noise, style_dim))
            width = counts[-1] + noise
        self.gradient_checkpointing = False

    def forward(self, noise_features: Sequence[torch.Tensor], attribute: torch.Tensor) -> torch.Tensor:
        hidden = self.constant.repeat(attribute.shape[0], 1, 1, 1).contiguous(memory_format=torch.channels_last)
        image = None
        for stage, noise in zip(self.stages, reversed(noise_features), strict=True):
            hidden, image = checkpointed(self, stage, hidden, image, noise, attribute)
        return image


class GPENFaceEnhancer(ThreeNetworks, SoundWeights, ModelMixin, ConfigMixin):
    """Restores aligned faces with GPEN's published network: `[B, 3, S, S]` RGB in [-1, 1] → the same, sharper.

    For published checkpoints (`hf_faceenh.convert`) and as a teacher. `gpen_config` gives the config of a published
    size; the defaults are those of GPEN-BFR-512. Every layer's width is its own number in the config.

    Args:
        sample_size: side S of the faces in px, 4·2ⁿ.
        encoder_channels: output channels of the convolutional network's convolutions, at S, S/2, …, 4.
        mapping_channels: output features of the linear mapping network's layers; the last is the attribute feature's.
        constant_channels: channels of the learned 4×4 constant.
        decoder_channels: output channels of the generating network's convolutions, per resolution 4, 8, …, S: one at
            4, two at every other. The noise feature's channels come on top of them.
        license: what the weights may be used for, for `hf-faceenh info` and model cards.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 512,
        encoder_channels: Sequence[int] = (64, 128, 256, 512, 512, 512, 512, 512),
        mapping_channels: Sequence[int] = (512,) * 9,
        constant_channels: int = 512,
        decoder_channels: Sequence[Sequence[int]] = (
            (512,), (512, 512), (512, 512), (512, 512), (512, 512), (256, 256), (128, 128), (64, 64),
        ),
        license: str | None = None,
    ):  # fmt: skip
        super().__init__()
        check_resolutions(sample_size, encoder_channels, decoder_channels)
        check_stages(decoder_channels)
        noise_channels = encoder_channels[::-1]
        self.convolutional_network = GPENConvolutionalNetwork(encoder_channels)
        self.mapping_network = GPENLinearMappingNetwork(16 * noise_channels[0], mapping_channels)
        self.generating_network = GPENGeneratingNetwork(
            decoder_channels, noise_channels, constant_channels, mapping_channels[-1]
        )

    def _image(self, faces: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        return generated.contiguous()

    def channel_groups(self) -> list[ChannelGroup]:
        """The convolutions (and the constant) whose channels can be removed, from the first to the last. The linear
        mapping network stays whole: its pixel norm compares all of its channels."""
        return [*self._encoder_groups(), *self._decoder_groups()]

    def _encoder_groups(self) -> list[ChannelGroup]:
        groups, top = [], len(self.config.encoder_channels) - 1
        for depth, width in enumerate(self.config.encoder_channels):
            stage = top - depth
            makers, readers = layer_outputs(f"convolutional_network.layers.{depth}"), []
            if depth < top:
                readers.append(Slice(f"convolutional_network.layers.{depth + 1}.weight", 1, equalized=True))
            else:
                readers.append(Slice("mapping_network.0.weight", 1, repeat=16, equalized=True))
            for index, before in enumerate(self.config.decoder_channels[stage]):
                # behind the bias of its own channels
                makers += (Slice(f"{styled_convolution(stage, index)}.bias", 0, before),)
                readers += styled_readers(self.config.decoder_channels, stage, index, before, equalized=True)
            groups.append(
                ChannelGroup(
                    name=f"convolutional_network.layers.{depth}",
                    part="convolutional_network",
                    resolution=self.config.sample_size >> depth,
                    width=width,
                    path=("encoder_channels", depth),
                    producers=makers,
                    consumers=tuple(readers),
                )
            )
        return groups

    def _decoder_groups(self) -> list[ChannelGroup]:
        widths = self.config.decoder_channels
        constant = constant_group(
            self.config.constant_channels, modulated_inputs(styled_convolution(0, 0), equalized=True)
        )
        return [
            constant,
            *(
                styled_convolution_group(widths, stage, index, equalized=True)
                for stage, counts in enumerate(widths)
                for index in range(len(counts))
            ),
        ]
