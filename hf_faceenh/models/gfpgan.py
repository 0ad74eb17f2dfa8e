"""GFPGAN as published, in its clean form (Wang et al. 2021, "Towards Real-World Blind Face Restoration with Generative
Facial Prior")."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .channels import (
    ChannelGroup,
    Slice,
    constant_group,
    layer_inputs,
    layer_outputs,
    modulated_inputs,
    styled_convolution,
    styled_convolution_group,
    styled_readers,
)
from .checkpointing import checkpointed
from .face_network import ThreeNetworks, check_counts, check_resolutions, check_stages
from .gpen import published_channels
from .layers import ACTIVATION_GAIN, SLOPE, demodulation, feature_transform, modulated_rgb
from .precision import PictureConv2d, map_dtype
from .soundness import SoundWeights


def gfpgan_config(size: int = 512, style_dim: int = 512, channel_multiplier: int = 2, narrow: float = 1.0) -> dict:
    """The published code's arguments → the config of a `GFPGANFaceEnhancer`. Versions 1.2, 1.3 and 1.4 have the
    defaults."""
    channels = published_channels(size, channel_multiplier, narrow)
    halves = tuple(count // 2 for count in channels.values())  # at 4, 8, …, S
    constant, *others = channels.values()
    return {
        "sample_size": size,
        "encoder_channels": halves[::-1],
        "halving_channels": halves[:0:-1],
        "doubling_channels": halves,
        "style_dim": style_dim,
        "constant_channels": constant,
        "scale_channels": halves[1:],
        "shift_channels": halves[1:],
        "conditioned_channels": halves[1:],
        "decoder_channels": ((constant,), *((count - count // 2, count) for count in others)),
    }


def lrelu(hidden: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(hidden, SLOPE, inplace=True)


def doubled(hidden: torch.Tensor) -> torch.Tensor:
    if hidden.is_meta:  # where a reduction counts costs, hundreds of times: interpolation would take most of the time
        return hidden.new_empty(*hidden.shape[:2], 2 * hidden.shape[2], 2 * hidden.shape[3])
    return F.interpolate(hidden, scale_factor=2, mode="bilinear")


def halved(hidden: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(hidden, 2)  # what bilinear interpolation to one half is


class HalvingBlock(nn.Module):
    """A residual block: `[B, in_channels, r, r]` → `[B, out_channels, r/2, r/2]`."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, hidden_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.skip(halved(hidden)).add_(lrelu(self.conv2(halved(lrelu(self.conv1(hidden))))))


class DoublingBlock(HalvingBlock):
    """A residual block: `[B, in_channels, r, r]` → `[B, out_channels, 2r, 2r]`."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        # The 1×1 convolution comes first, unlike in published code: the same result at a quarter of the cost.
        return doubled(self.skip(hidden)).add_(lrelu(self.conv2(doubled(lrelu(self.conv1(hidden))))))


class GFPGANConvolutionalNetwork(nn.Module):
    """The U-shaped degradation removal: `[B, 3, S, S]` → noise features: one map per resolution, those of its way up
    at S, S/2, …, 8, and the one at its bottom.

    Args:
        channels: of the maps on the way down, at S, S/2, …, 4; below S those of the way up are added to them.
        halving_channels: between the two convolutions of the blocks on the way down, at S, S/2, …, 8.
        doubling_channels: likewise on the way up, at 4, 8, …, S/2; and of its last map, at S.
    """

    def __init__(self, channels: Sequence[int], halving_channels: Sequence[int], doubling_channels: Sequence[int]):
        super().__init__()
        self.stem = PictureConv2d(3, channels[0], 1)
        self.down = nn.ModuleList(
            HalvingBlock(*counts) for counts in zip(channels[:-1], halving_channels, channels[1:], strict=True)
        )
        self.bottom = nn.Conv2d(channels[-1], channels[-1], 3, padding=1)
        *hidden, last = doubling_channels
        up = channels[:0:-1]
        self.up = nn.ModuleList(DoublingBlock(*counts) for counts in zip(up, hidden, [*up[1:], last], strict=True))
        self.gradient_checkpointing = False

    def forward(self, sample: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden = lrelu(self.stem(sample).to(map_dtype(self.bottom.weight)))
        skipped = []
        for block in self.down:
            hidden = checkpointed(self, block, hidden)
            skipped.append(hidden)
        features = [lrelu(self.bottom(hidden))]
        for block, skip in zip(self.up, reversed(skipped), strict=True):
            features.append(checkpointed(self, block, features[-1] + skip))
        return tuple(reversed(features))


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


class ChannelSplitTransform(nn.Module):
    """GFPGAN's channel-split spatial feature transform: the last `channels` of a map become channel · scale + shift,
    both computed from a noise feature; the others stay as they are.

    `[B, C, r, r]` and `[B, feature_channels, r, r]` → `[B, C, r, r]`, C ≥ `channels`.
    """

    def __init__(self, feature_channels: int, scale_channels: int, shift_channels: int, channels: int):
        super().__init__()
        self.channels = channels
        self.scale = feature_transform(feature_channels, scale_channels, channels)
        self.shift = feature_transform(feature_channels, shift_channels, channels)

    def forward(self, hidden: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
        """Without gradients, `hidden` is overwritten."""
        scale, shift = self.scale(feature), self.shift(feature)
        kept, changed = hidden.split([hidden.shape[1] - self.channels, self.channels], dim=1)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return torch.cat([kept, torch.addcmul(shift, changed, scale)], dim=1)
        torch.addcmul(shift, changed, scale, out=changed)
        return hidden


class GFPGANGeneratingStage(nn.Module):
    """One resolution: styled convolutions, and its addition to the image. Each layer has a style of its own; the
    to-RGB shares its style with the first layer of the next stage.

    `[B, in_channels, r/2, r/2]` → `[B, channels[-1], r, r]` and `[B, 3, r, r]`.

    Args:
        channels: of the convolutions; those that are transformed come on top of the first's.
        transform: of the first convolution's map; `None` in the first stage, which doesn't upscale either.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        style_dim: int,
        size: int,
        transform: ChannelSplitTransform | None,
    ):
        super().__init__()
        self.convolutions = nn.ModuleList()
        for index, count in enumerate(channels):
            upsample = index == 0 and transform is not None
            width = count + transform.channels if upsample else count
            self.convolutions.append(GFPGANStyledConv2d(in_channels, width, style_dim, size, upsample))
            in_channels = width
        self.transform = transform
        self.to_rgb = GFPGANToRGB(in_channels, style_dim)

    def forward(
        self, hidden: torch.Tensor, image: torch.Tensor | None, feature: torch.Tensor, styles: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        *layers, to_rgb = styles.unbind(1)
        for convolution, style in zip(self.convolutions, layers, strict=True):
            hidden = convolution(hidden, style)
            if convolution.upsample:
                hidden = self.transform(hidden, feature)
        addition = self.to_rgb(hidden, to_rgb)
        return hidden, addition if image is None else doubled(image).add_(addition)


class GFPGANGeneratingNetwork(nn.Module):
    """A learned 4×4 constant, noise features and the attribute feature, which holds one style per layer → image
    `[B, 3, S, S]`, summed in float32."""

    def __init__(
        self,
        channels: Sequence[Sequence[int]],
        transforms: Sequence[ChannelSplitTransform],
        constant_channels: int,
        style_dim: int,
    ):
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, constant_channels, 4, 4))
        self.stages = nn.ModuleList()
        width = constant_channels
        for depth, (counts, transform) in enumerate(zip(channels, (None, *transforms), strict=True)):
            self.stages.append(GFPGANGeneratingStage(width, counts, style_dim, 4 << depth, transform))
            width = counts[-1]
        self.style_dim = style_dim
        self.gradient_checkpointing = False

    def forward(self, noise_features: Sequence[torch.Tensor], attribute: torch.Tensor) -> torch.Tensor:
        hidden = self.constant.repeat(attribute.shape[0], 1, 1, 1).contiguous(memory_format=torch.channels_last)
        styles = attribute.unflatten(1, (-1, self.style_dim))
        image, first = None, 0
        for stage, feature in zip(self.stages, reversed(noise_features), strict=True):
            count = len(stage.convolutions)
            own = styles[:, first : first + count + 1]
            hidden, image = checkpointed(self, stage, hidden, image, feature, own)
            first += count
        return image


class GFPGANFaceEnhancer(ThreeNetworks, SoundWeights, ModelMixin, ConfigMixin):
    """Restores aligned faces with GFPGAN's published network: `[B, 3, S, S]` RGB in [-1, 1] → the same, sharper.

    For published checkpoints of the versions 1.2, 1.3 and 1.4 (`hf_faceenh.convert`) and as a teacher. `gfpgan_config`
    gives the config of the published code's arguments; the defaults are those of the published versions. Every layer's
    width is its own number in the config, but where maps are added to each other.

    Args:
        sample_size: side S of the faces in px, 4·2ⁿ.
        encoder_channels: channels of the convolutional network's maps on its way down, at S, S/2, …, 4, and below S
            on its way up.
        halving_channels: channels between the two convolutions of its blocks on the way down, at S, S/2, …, 8.
        doubling_channels: likewise on the way up, at 4, 8, …, S/2; and of the last map there, at S.
        style_dim: features of each layer's style; together the styles are the attribute feature.
        constant_channels: channels of the learned 4×4 constant.
        scale_channels: channels between the two convolutions that make a scale of a noise feature, at 8, 16, …, S.
        shift_channels: likewise, of those that make a shift.
        conditioned_channels: channels that are scaled and shifted, of the generating network's first convolution at 8,
            16, …, S.
        decoder_channels: output channels of the generating network's convolutions, per resolution 4, 8, …, S: one at
            4, two at every other. The conditioned channels come on top of the first's.
        license: what the weights may be used for, for `hf-faceenh info` and model cards.
    """

    _keep_in_fp32_modules = ["stem"]  # in from_pretrained; see PictureConv2d

    @register_to_config
    def __init__(
        self,
        sample_size: int = 512,
        encoder_channels: Sequence[int] = (32, 64, 128, 256, 256, 256, 256, 256),
        halving_channels: Sequence[int] = (32, 64, 128, 256, 256, 256, 256),
        doubling_channels: Sequence[int] = (256, 256, 256, 256, 256, 128, 64, 32),
        style_dim: int = 512,
        constant_channels: int = 512,
        scale_channels: Sequence[int] = (256, 256, 256, 256, 128, 64, 32),
        shift_channels: Sequence[int] = (256, 256, 256, 256, 128, 64, 32),
        conditioned_channels: Sequence[int] = (256, 256, 256, 256, 128, 64, 32),
        decoder_channels: Sequence[Sequence[int]] = (
            (512,), (256, 512), (256, 512), (256, 512), (256, 512), (128, 256), (64, 128), (32, 64),
        ),
        license: str | None = None,
    ):  # fmt: skip
        super().__init__()
        check_resolutions(sample_size, encoder_channels, decoder_channels)
        check_stages(decoder_channels)
        conditions = {
            "scale_channels": scale_channels,
            "shift_channels": shift_channels,
            "conditioned_channels": conditioned_channels,
        }
        steps = len(encoder_channels) - 1
        check_counts(sample_size, steps, halving_channels=halving_channels, **conditions)
        check_counts(sample_size, steps + 1, doubling_channels=doubling_channels)
        noise_channels = [*encoder_channels[-2:0:-1], doubling_channels[-1]]  # at 8, 16, …, S
        transforms = [
            ChannelSplitTransform(*counts) for counts in zip(noise_channels, *conditions.values(), strict=True)
        ]
        layers = sum(map(len, decoder_channels)) + 1  # and the last to-RGB
        self.convolutional_network = GFPGANConvolutionalNetwork(encoder_channels, halving_channels, doubling_channels)
        self.mapping_network = nn.Linear(16 * encoder_channels[-1], layers * style_dim)
        self.generating_network = GFPGANGeneratingNetwork(decoder_channels, transforms, constant_channels, style_dim)

    def _image(self, faces: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        return generated.contiguous()

    def channel_groups(self) -> list[ChannelGroup]:
        """The convolutions (and the constant) whose channels can be removed.

        Channels that are added up go together: those of both ways through a block of the convolutional network, and of
        its maps of one resolution on the way down and up. A conditioned channel goes with its scale and its shift. The
        styles stay whole, as the attribute feature does that a student shares with its teacher: of GFPGAN-512 they
        hold nearly half of the parameters, but take 0.02 % of the multiply-accumulates.
        """
        return [*self._encoder_groups(), *self._decoder_groups()]

    def _group(
        self,
        name: str,
        resolution: int,
        path: tuple[str | int, ...],
        producers: tuple[Slice, ...],
        consumers: tuple[Slice, ...],
    ) -> ChannelGroup:
        width = self.config
        for key in path:
            width = width[key]
        return ChannelGroup(name, name.partition(".")[0], resolution, width, path, producers, consumers)

    def _encoder_groups(self) -> list[ChannelGroup]:
        stem, size, steps = "convolutional_network.stem", self.config.sample_size, len(self.config.halving_channels)
        groups = [self._group(stem, size, ("encoder_channels", 0), layer_outputs(stem), block_inputs(down(0)))]
        for depth in range(steps):
            groups.append(self._hidden_group(down(depth), size >> depth, ("halving_channels", depth)))
        for step in range(steps):
            groups.append(self._hidden_group(up(step), 4 << step, ("doubling_channels", step)))
        last = up(steps - 1)
        path = ("doubling_channels", steps)
        groups.append(self._group(last, size, path, block_outputs(last), transform_inputs(steps)))
        groups += [self._sum_group(depth) for depth in range(1, steps + 1)]
        return groups

    def _hidden_group(self, block: str, resolution: int, path: tuple[str | int, ...]) -> ChannelGroup:
        """Between a block's convolutions."""
        first = f"{block}.conv1"
        return self._group(first, resolution, path, layer_outputs(first), layer_inputs(f"{block}.conv2"))

    def _sum_group(self, depth: int) -> ChannelGroup:
        """The map that is halved `depth` times, on the way down and up: at 4×4 the bottom lies in between."""
        name, step = down(depth - 1), len(self.config.halving_channels) - depth
        producers, consumers = block_outputs(name), block_inputs(up(step))
        if step > 0:
            producers += block_outputs(up(step - 1))
            consumers += block_inputs(down(depth)) + transform_inputs(step)
        else:
            bottom = "convolutional_network.bottom"
            producers += layer_outputs(bottom)
            consumers += layer_inputs(bottom) + (Slice("mapping_network.weight", 1, repeat=16),)
        return self._group(name, 4 << step, ("encoder_channels", depth), producers, consumers)

    def _decoder_groups(self) -> list[ChannelGroup]:
        widths = self.config.decoder_channels
        groups = [constant_group(self.config.constant_channels, modulated_inputs(styled_convolution(0, 0)))]
        for stage, counts in enumerate(widths):
            groups += [styled_convolution_group(widths, stage, index) for index in range(len(counts))]
            if stage > 0:
                groups += self._transform_groups(stage)
        return groups

    def _transform_groups(self, stage: int) -> list[ChannelGroup]:
        """Between the convolutions of scale and shift, and the channels that are conditioned."""
        name, resolution, kept = transform(stage), 4 << stage, self.config.decoder_channels[stage][0]
        groups, makers = [], ()
        for part in ("scale", "shift"):
            first, second = f"{name}.{part}.0", f"{name}.{part}.2"
            path = (f"{part}_channels", stage - 1)
            groups.append(self._group(first, resolution, path, layer_outputs(first), layer_inputs(second)))
            makers += layer_outputs(second)
        convolution = styled_convolution(stage, 0)
        makers += (Slice(f"{convolution}.weight", 0, kept), Slice(f"{convolution}.bias", 0, kept))
        readers = styled_readers(self.config.decoder_channels, stage, 0, kept)
        return [*groups, self._group(name, resolution, ("conditioned_channels", stage - 1), makers, readers)]


# Names of layers, and their channels


def down(depth: int) -> str:
    """The block that reads the map which was halved `depth` times."""
    return f"convolutional_network.down.{depth}"


def up(step: int) -> str:
    """The block that doubles the map of 4·2^`step` px."""
    return f"convolutional_network.up.{step}"


def transform(stage: int) -> str:
    return f"generating_network.stages.{stage}.transform"


def block_inputs(block: str) -> tuple[Slice, ...]:
    return layer_inputs(f"{block}.conv1", f"{block}.skip")


def block_outputs(block: str) -> tuple[Slice, ...]:
    return (*layer_outputs(f"{block}.conv2"), Slice(f"{block}.skip.weight", 0))


def transform_inputs(stage: int) -> tuple[Slice, ...]:
    """What reads the noise feature of 4·2^`stage` px."""
    return layer_inputs(f"{transform(stage)}.scale.0", f"{transform(stage)}.shift.0")
