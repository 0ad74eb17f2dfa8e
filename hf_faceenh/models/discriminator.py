"""GPEN's discriminator as published: StyleGAN2's (Karras et al. 2020), with one minibatch group."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn

from .checkpointing import checkpointed
from .face_network import check_faces
from .gpen import published_channels
from .layers import EqualizedConv2d, EqualizedLinear
from .precision import at_least_float32
from .soundness import SoundWeights


@dataclass
class FaceDiscriminatorOutput(BaseOutput):
    """What a `FaceDiscriminator` returns.

    Args:
        logits: `[B, 1]`, large for faces that look like sharp photographs.
    """

    logits: torch.Tensor


def discriminator_config(size: int = 512, channel_multiplier: int = 2, narrow: float = 1.0) -> dict:
    """The published code's arguments → the config of a `FaceDiscriminator`; the default goes with GPEN-BFR-512."""
    channels = list(published_channels(size, channel_multiplier, narrow).values())[::-1]
    return {
        "sample_size": size,
        "stem_channels": channels[0],
        "block_channels": tuple(zip(channels, channels[1:], strict=False)),
        "head_channels": (channels[-1], channels[-1]),
    }


class ResidualBlock(nn.Module):
    """`[B, in_channels, r, r]` → `[B, channels[1], r/2, r/2]`; `channels` are those of its two 3×3 convolutions."""

    def __init__(self, in_channels: int, channels: Sequence[int]):
        super().__init__()
        middle, out_channels = channels
        self.conv1 = EqualizedConv2d(in_channels, middle, 3)
        self.conv2 = EqualizedConv2d(middle, out_channels, 3, downsample=True)
        self.skip = EqualizedConv2d(in_channels, out_channels, 1, downsample=True, activation=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return (self.conv2(self.conv1(hidden)) + self.skip(hidden)) / math.sqrt(2)


def append_minibatch_deviation(hidden: torch.Tensor) -> torch.Tensor:
    """`[B, C, r, r]` → `[B, C + 1, r, r]`: the standard deviation over the batch, averaged over all, as one more map.

    It shows the discriminator how varied a batch is; the value of a face depends on the other faces of the batch.
    """
    # In float16 the 1e-8 is 0, and where all faces of the batch agree (or there is one) √0 has no gradient.
    variance = at_least_float32(hidden).var(0, correction=0)
    deviation = torch.sqrt(variance + 1e-8).mean().to(hidden.dtype)
    return torch.cat([hidden, deviation.expand(len(hidden), 1, *hidden.shape[2:])], dim=1)


class FaceDiscriminator(SoundWeights, ModelMixin, ConfigMixin):
    """Tells sharp photographs of faces from enhanced ones: `[B, 3, S, S]` RGB in [-1, 1] → one number per face.

    `discriminator_config` gives the config of a published size; the defaults go with GPEN-BFR-512.

    Args:
        sample_size: side S of the faces in px, 4·2ⁿ.
        stem_channels: output channels of the first, 1×1, convolution.
        block_channels: output channels of the two 3×3 convolutions of every residual block, at S, S/2, …, 8; the
            second halves the resolution.
        head_channels: output channels of the last 3×3 convolution, at 4×4, and of the linear layer after it.
        license: what the weights may be used for, for `hf-faceenh info` and model cards.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        sample_size: int = 512,
        stem_channels: int = 64,
        block_channels: Sequence[Sequence[int]] = (
            (64, 128), (128, 256), (256, 512), (512, 512), (512, 512), (512, 512), (512, 512),
        ),
        head_channels: Sequence[int] = (512, 512),
        license: str | None = None,
    ):  # fmt: skip
        super().__init__()
        if sample_size != 4 * 2 ** len(block_channels):
            raise ValueError(
                f"sample_size must be 4·2ⁿ for n block_channels; got {sample_size} for {len(block_channels)}."
            )
        self.stem = EqualizedConv2d(3, stem_channels, 1)
        self.blocks = nn.ModuleList()
        width = stem_channels
        for channels in block_channels:
            self.blocks.append(ResidualBlock(width, channels))
            width = channels[1]
        self.final_conv = EqualizedConv2d(width + 1, head_channels[0], 3)
        self.final_linear = EqualizedLinear(16 * head_channels[0], head_channels[1], activation=True)
        self.output = EqualizedLinear(head_channels[1], 1)
        self.gradient_checkpointing = False

    def forward(
        self, sample: torch.Tensor, return_dict: bool = True
    ) -> FaceDiscriminatorOutput | tuple[torch.Tensor, ...]:
        """
        Args:
            sample: faces, `[B, 3, S, S]` RGB in [-1, 1]; the whole batch is one minibatch-deviation group.
            return_dict: return a `FaceDiscriminatorOutput`; else a tuple.

        Raises:
            ValueError: for another shape.
        """
        check_faces(self, sample)
        hidden = self.stem(sample.to(self.stem.weight.dtype).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            hidden = checkpointed(self, block, hidden)
        hidden = self.final_conv(append_minibatch_deviation(hidden))
        output = FaceDiscriminatorOutput(logits=self.output(self.final_linear(hidden.flatten(1))))
        return output if return_dict else output.to_tuple()
