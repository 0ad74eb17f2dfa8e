"""Our own face enhancer: convolutional network → noise features, linear mapping network → attribute feature,
generating network → image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .channels import ChannelGroup, Slice, constant_group, layer_outputs
from .checkpointing import checkpointed
from .face_network import ThreeNetworks, check_resolutions
from .layers import SLOPE
from .precision import PictureConv2d, at_least_float32, map_dtype
from .soundness import SoundWeights


class ConvolutionalNetwork(nn.Module):
    """`[B, 3, S, S]` → noise features: one map per resolution, S/p, S/2p, …, 4.

    The first convolution reads each `patch_size` × `patch_size` (p × p) px square as one position. `channels` holds
    the output channels of every convolution: one for the first resolution, two (stride 2, stride 1) for each one below
    it.
    """

    def __init__(self, channels: Sequence[Sequence[int]], patch_size: int):
        super().__init__()
        (stem,), *rest = channels
        self.patch_size = patch_size
        self.stem = PictureConv2d(3 * patch_size**2, stem, 3, padding=1)
        self.stages = nn.ModuleList()
        width = stem
        for down, keep in rest:
            self.stages.append(
                nn.ModuleList([nn.Conv2d(width, down, 3, stride=2, padding=1), nn.Conv2d(down, keep, 3, padding=1)])
            )
            width = keep
        self.gradient_checkpointing = False

    @staticmethod
    def _stage(stage: nn.ModuleList, hidden: torch.Tensor) -> torch.Tensor:
        for conv in stage:
            hidden = F.leaky_relu(conv(hidden), SLOPE, inplace=True)
        return hidden

    def forward(self, sample: torch.Tensor) -> tuple[torch.Tensor, ...]:
        patches = F.pixel_unshuffle(sample, self.patch_size)
        first = self.stem(patches).to(map_dtype(self.stages[0][0].weight))
        features = [F.leaky_relu(first, SLOPE, inplace=True)]
        for stage in self.stages:
            features.append(checkpointed(self, self._stage, stage, features[-1]))
        return tuple(features)


class LinearMappingNetwork(nn.Module):
    """The flattened 4×4 noise feature `[B, 16·C]` → attribute feature `[B, channels[-1]]`."""

    def __init__(self, in_features: int, channels: Sequence[int]):
        super().__init__()
        widths = [in_features, *channels]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, flat: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            flat = F.leaky_relu(layer(flat), SLOPE)
        return flat


class StyledConvolution(nn.Module):
    """A 3×3 convolution whose input channels the attribute feature scales by 1 + linear(attribute)."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.style = nn.Linear(style_dim, in_channels)

    def forward(
        self, hidden: torch.Tensor, attribute: torch.Tensor, noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """With `noise`, the input is `hidden`, upscaled to its size (nearest), and `noise` after it."""
        scale = (1 + self.style(attribute))[:, :, None, None]
        if noise is None:
            return self._convolve(hidden * scale)
        width = hidden.shape[1]
        hidden = hidden * scale[:, :width]  # a quarter of the work before it is upscaled
        if hidden.shape[-1] != noise.shape[-1]:
            hidden = F.interpolate(hidden, scale_factor=2, mode="nearest")
        return self._convolve(torch.cat([hidden, noise * scale[:, width:]], dim=1))

    def _convolve(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(self.conv(hidden), SLOPE, inplace=True)


class GeneratingNetwork(nn.Module):
    """A learned 4×4 constant → image residual `[B, 3, S, S]`.

    Per resolution 4, 8, …, S/p: upscale by 2 (nearest), concatenate the noise feature, two styled convolutions; at
    last, each position becomes a square of `patch_size` × `patch_size` (p × p) px. `channels` holds their output
    channels, from 4×4 up; `noise_channels` those of the noise features, likewise.
    """

    def __init__(
        self,
        channels: Sequence[Sequence[int]],
        noise_channels: Sequence[int],
        constant_channels: int,
        style_dim: int,
        patch_size: int,
    ):
        super().__init__()
        self.patch_size = patch_size
        self.constant = nn.Parameter(torch.randn(1, constant_channels, 4, 4))
        self.stages = nn.ModuleList()
        width = constant_channels
        for (first, second), noise in zip(channels, noise_channels, strict=True):
            self.stages.append(
                nn.ModuleList(
                    [StyledConvolution(width + noise, first, style_dim), StyledConvolution(first, second, style_dim)]
                )
            )
            width = second
        self.to_rgb = nn.Conv2d(width, 3 * patch_size**2, 3, padding=1)
        self.gradient_checkpointing = False

    @staticmethod
    def _stage(stage: nn.ModuleList, hidden: torch.Tensor, noise: torch.Tensor, attribute: torch.Tensor):
        first, second = stage
        return second(first(hidden, attribute, noise), attribute)

    def forward(self, noise_features: Sequence[torch.Tensor], attribute: torch.Tensor) -> torch.Tensor:
        # A copy: FlopCounterMode takes no view of a parameter.
        hidden = self.constant.repeat(attribute.shape[0], 1, 1, 1)
        for stage, noise in zip(self.stages, reversed(noise_features), strict=True):
            hidden = checkpointed(self, self._stage, stage, hidden, noise, attribute)
        return F.pixel_shuffle(self.to_rgb(hidden), self.patch_size)


class FaceEnhancer(ThreeNetworks, SoundWeights, ModelMixin, ConfigMixin):
    """Restores aligned faces: `[B, 3, S, S]` RGB in [-1, 1] → the same, sharper.

    The structure is that of GPEN (Yang et al. 2021: noise features and an attribute feature from the degraded face
    steer a generator), reshaped to learn from nothing on modest hardware: a U-shaped generator without demodulation,
    blur or equalised learning rate, whose output is added to the input.

    Every convolution's and linear layer's width is its own number in the config, because training reduces them one by
    one.

    Args:
        sample_size: side S of the faces in px, 4·2ⁿ·p.
        patch_size: p, side in px of the squares that the first and the last convolution see as one position. With 2,
            a face of 512 px costs what one of 256 px costs with 1.
        encoder_channels: output channels of the convolutional network's convolutions, per resolution S/p, S/2p, …, 4:
            `[stem], [stride 2, stride 1], …`.
        mapping_channels: output features of the linear mapping network's layers; the last is the attribute feature's.
        constant_channels: channels of the learned 4×4 constant.
        decoder_channels: output channels of the generating network's convolutions, per resolution 4, 8, …, S/p.
        license: what the weights may be used for, for `hf-faceenh info` and model cards.
    """

    _keep_in_fp32_modules = ["stem"]  # in from_pretrained; see PictureConv2d

    @register_to_config
    def __init__(
        self,
        sample_size: int = 256,
        encoder_channels: Sequence[Sequence[int]] = (
            (16,), (32, 32), (64, 64), (96, 96), (96, 96), (96, 96), (96, 96),
        ),
        mapping_channels: Sequence[int] = (128, 128),
        constant_channels: int = 96,
        decoder_channels: Sequence[Sequence[int]] = (
            (96, 96), (96, 96), (96, 96), (96, 96), (64, 64), (32, 32), (16, 16),
        ),
        patch_size: int = 1,
        license: str | None = None,
    ):  # fmt: skip
        super().__init__()
        check_resolutions(sample_size, encoder_channels, decoder_channels, patch_size)
        noise_channels = [channels[-1] for channels in reversed(encoder_channels)]
        self.convolutional_network = ConvolutionalNetwork(encoder_channels, patch_size)
        self.mapping_network = LinearMappingNetwork(16 * noise_channels[0], mapping_channels)
        self.generating_network = GeneratingNetwork(
            decoder_channels, noise_channels, constant_channels, mapping_channels[-1], patch_size
        )
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """He et al. 2015: every layer keeps its input's variance. PyTorch's default loses two thirds of it at each of
        28 layers, until the deep ones' gradients are below Adam's epsilon and the network stays at the identity.
        """
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                nn.init.zeros_(module.bias)
        for stage in self.generating_network.stages:
            for layer in stage:
                layer.style.weight.mul_(0.1)  # starts near the plain convolution
        self.generating_network.to_rgb.weight.mul_(0.02)  # starts near the input picture

    def _image(self, faces: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        return at_least_float32(faces) + at_least_float32(generated)

    def channel_groups(self) -> list[ChannelGroup]:
        """The layers whose channels can be removed, from the first to the last: all but the attribute feature, which
        keeps its width, and the image."""
        return [*self._encoder_groups(), *self._mapping_groups(), *self._decoder_groups()]

    def _encoder_groups(self) -> list[ChannelGroup]:
        config, groups = self.config, []
        top = len(config.encoder_channels) - 1
        for depth, widths in enumerate(config.encoder_channels):
            stage = f"convolutional_network.stages.{depth - 1}"
            layers = [f"{stage}.0", f"{stage}.1"] if depth else ["convolutional_network.stem"]
            for index, (layer, width) in enumerate(zip(layers, widths, strict=True)):
                if index < len(layers) - 1:
                    readers = (Slice(f"{layers[index + 1]}.weight", 1),)
                else:  # a noise feature: it goes down, and across to the generating network
                    down = Slice("mapping_network.layers.0.weight", 1, repeat=16)
                    if depth < top:
                        down = Slice(f"convolutional_network.stages.{depth}.0.weight", 1)
                    before = config.decoder_channels[top - depth - 1][-1] if depth < top else config.constant_channels
                    readers = (down, *_styled_inputs(f"generating_network.stages.{top - depth}.0", before))
                groups.append(
                    ChannelGroup(
                        name=layer,
                        part="convolutional_network",
                        resolution=config.sample_size // config.patch_size >> depth,
                        width=width,
                        path=("encoder_channels", depth, index),
                        producers=layer_outputs(layer),
                        consumers=readers,
                    )
                )
        return groups

    def _mapping_groups(self) -> list[ChannelGroup]:
        layer = "mapping_network.layers.{}".format
        return [
            ChannelGroup(
                name=layer(index),
                part="mapping_network",
                resolution=None,
                width=width,
                path=("mapping_channels", index),
                producers=layer_outputs(layer(index)),
                consumers=(Slice(f"{layer(index + 1)}.weight", 1),),
            )
            for index, width in enumerate(self.config.mapping_channels[:-1])
        ]

    def _decoder_groups(self) -> list[ChannelGroup]:
        groups = [constant_group(self.config.constant_channels, _styled_inputs("generating_network.stages.0.0"))]
        last = len(self.config.decoder_channels) - 1
        for depth, widths in enumerate(self.config.decoder_channels):
            for index, width in enumerate(widths):
                layer = f"generating_network.stages.{depth}.{index}"
                if index == 0:
                    readers = _styled_inputs(f"generating_network.stages.{depth}.1")
                elif depth < last:
                    readers = _styled_inputs(f"generating_network.stages.{depth + 1}.0")
                else:
                    readers = (Slice("generating_network.to_rgb.weight", 1),)
                groups.append(
                    ChannelGroup(
                        name=layer,
                        part="generating_network",
                        resolution=4 << depth,
                        width=width,
                        path=("decoder_channels", depth, index),
                        producers=layer_outputs(f"{layer}.conv"),
                        consumers=readers,
                    )
                )
        return groups


def _styled_inputs(layer: str, start: int = 0) -> tuple[Slice, ...]:
    """Input channels of a styled convolution, from `start` on."""
    return (
        Slice(f"{layer}.conv.weight", 1, start),
        Slice(f"{layer}.style.weight", 0, start),
        Slice(f"{layer}.style.bias", 0, start),
    )
