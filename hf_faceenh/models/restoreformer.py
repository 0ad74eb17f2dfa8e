"""RestoreFormer and RestoreFormer++ as published (Wang et al. 2022, "RestoreFormer: High-Quality Blind Face
Restoration From Undegraded Key-Value Pairs"; Wang et al. 2023, "RestoreFormer++")."""

from collections.abc import Sequence
from functools import partial

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .face_network import FaceEnhancerOutput, check_faces, check_halvings, face_output
from .precision import at_least_float32
from .soundness import SoundWeights
from .vqgan import Attention, Decoder, Encoder, as_map, as_places, swish


class GuidedDecoder(Decoder):
    """Codes → image. What attends are features of the degraded face, what they find are codes of clean ones."""

    def forward(self, codes: torch.Tensor, guides: Sequence[torch.Tensor]) -> torch.Tensor:
        """
        Args:
            codes: `[B, C, s, s]`.
            guides: features of the encoder, for the attention of the middle and of each resolution that has some.
        """
        of_middle, *of_stages = guides
        hidden = attended(self.middle, self.conv_in(codes), of_middle)
        of_stages += [None] * (len(self.stages) - len(of_stages))
        for layers, guide, up in zip(self.stages, of_stages, (*self.ups, nn.Identity()), strict=True):
            hidden = up(attended(layers, hidden, guide))
        return self.conv_out(swish(self.norm(hidden)))


def attended(layers: nn.Sequential, hidden: torch.Tensor, guide: torch.Tensor | None) -> torch.Tensor:
    for layer in layers:
        hidden = layer(hidden, guide) if isinstance(layer, Attention) else layer(hidden)
    return hidden


class Codebook(nn.Embedding):
    """`[B, C, s, s]` → the same, each place replaced by the nearest code."""

    def nearest(self, encoded: torch.Tensor) -> torch.Tensor:
        """`[B, C, s, s]` → numbers of codes, `[B, s²]`. In float32: close codes differ by less than half precision
        tells apart."""
        places, codes = at_least_float32(as_places(encoded)), at_least_float32(self.weight)
        # |z - e|² without |z|², which is the same for all codes
        return (codes.square().sum(1) - 2 * places @ codes.T).argmin(dim=2)

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        return as_map(super().forward(self.nearest(encoded)))


class RestoreFormerFaceEnhancer(SoundWeights, ModelMixin, ConfigMixin):
    """Restores aligned faces with RestoreFormer's published network: `[B, 3, S, S]` RGB in [-1, 1] → the same,
    sharper.

    An encoder sees the degraded face, each place of its map becomes the nearest code of a learned codebook, and a
    decoder makes the face from these, in which features of the degraded face attend to the codes.

    For published checkpoints (`hf_faceenh.convert`); the defaults are those of RestoreFormer. RestoreFormer++ has 4
    heads, and attention at 2 resolutions of its decoder.

    Args:
        sample_size: side S of the faces in px.
        channels: of the maps at S, S/2, …, s = S / 2ⁿ, multiples of 32. A face has s² codes.
        code_channels: features of one code, and of the maps before and after it.
        codes: how many the codebook has.
        heads: of the attention.
        attended_resolutions: resolutions of the decoder with attention, from s up: 1 or 2.
        license: what the weights may be used for, for `hf-faceenh info` and model cards.

    Raises:
        ValueError: for a sample_size that cannot be halved so often, or other attended_resolutions.
    """

    _keep_in_fp32_modules = ["stem"]  # in from_pretrained; see PictureConv2d

    @register_to_config
    def __init__(
        self,
        sample_size: int = 512,
        channels: Sequence[int] = (64, 128, 128, 256, 256, 512),
        code_channels: int = 256,
        codes: int = 1024,
        heads: int = 8,
        attended_resolutions: int = 1,
        license: str | None = None,
    ):
        super().__init__()
        check_halvings(sample_size, channels)
        if attended_resolutions not in (1, 2):
            raise ValueError(f"attended_resolutions must be 1 or 2; got {attended_resolutions!r}.")
        attention = partial(Attention, heads=heads, guided=True)
        self.encoder = Encoder(channels, code_channels, heads)
        self.quant_conv = nn.Conv2d(code_channels, code_channels, 1)
        self.codebook = Codebook(codes, code_channels)
        self.post_quant_conv = nn.Conv2d(code_channels, code_channels, 1)
        self.decoder = GuidedDecoder(channels[::-1], code_channels, 3, attended_resolutions, attention)

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
        encoded, features = self.encoder(sample.contiguous(memory_format=torch.channels_last))
        codes = self.post_quant_conv(self.codebook(self.quant_conv(encoded)))
        *of_resolutions, middle_first, middle_last = features
        guides = (middle_last, middle_first, of_resolutions[-2])[: 1 + self.config.attended_resolutions]
        return face_output(self.decoder(codes, guides), sample, return_dict)
