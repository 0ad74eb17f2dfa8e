"""CodeFormer as published (Zhou et al. 2022, "Towards Robust Blind Face Restoration with Codebook Lookup
Transformer")."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from .face_network import FaceEnhancerOutput, check_faces, check_fidelity, check_halvings, face_output
from .layers import feature_transform
from .precision import at_least_float32
from .soundness import SoundWeights
from .vqgan import Attention, Decoder, Encoder, ResidualBlock, as_map, as_places


class TransformerLayer(nn.Module):
    """Self-attention and a small network, each on the normalised input and added to it: `[B, N, C]` → the same.
    Queries and keys know their position, values do not."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, 2 * width)
        self.linear2 = nn.Linear(2 * width, width)

    def forward(self, hidden: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        values = self.norm1(hidden)
        places = values + position
        hidden = hidden + self.self_attn(places, places, values, need_weights=False)[0]
        return hidden + self.linear2(F.gelu(self.linear1(self.norm2(hidden))))


class CodePredictor(nn.Module):
    """The transformer that guesses each place's code in a clean face: `[B, C, s, s]` → logits `[B, s², codes]`."""

    def __init__(self, code_channels: int, codes: int, places: int, width: int, layers: int, heads: int):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(places, width))
        self.embed = nn.Linear(code_channels, width)
        self.layers = nn.ModuleList(TransformerLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, codes, bias=False)

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(as_places(encoded))
        for layer in self.layers:
            hidden = layer(hidden, self.position)
        return self.logits(self.norm(hidden))


class Fusion(nn.Module):
    """Controllable feature transformation: the generator's map, moved towards the degraded face's by `fidelity`."""

    def __init__(self, channels: int):
        super().__init__()
        self.merge = ResidualBlock(2 * channels, channels)
        self.scale = feature_transform(channels, channels, channels)
        self.shift = feature_transform(channels, channels, channels)

    def forward(self, hidden: torch.Tensor, feature: torch.Tensor, fidelity: float) -> torch.Tensor:
        merged = self.merge(torch.cat([feature, hidden], dim=1))
        change = torch.addcmul(self.shift(merged), hidden, self.scale(merged))
        return change.mul_(fidelity).add_(hidden)


class Generator(Decoder):
    """Looked-up codes → image, with the encoder's features of some resolutions fused in."""

    def __init__(self, channels: Sequence[int], code_channels: int, code_side: int, fused: Sequence[int]):
        super().__init__(channels, code_channels, blocks=2, attended=1, attention=Attention)
        widths = {code_side << depth: width for depth, width in enumerate(channels)}
        self.fusions = nn.ModuleDict({str(resolution): Fusion(widths[resolution]) for resolution in fused})

    def forward(self, codes: torch.Tensor, features: Mapping[int, torch.Tensor], fidelity: float) -> torch.Tensor:
        hidden = self.middle(self.conv_in(codes))
        for (first, *others), up in zip(self.stages, (*self.ups, nn.Identity()), strict=True):
            hidden, resolution = first(hidden), str(int(hidden.shape[-1]))
            if fidelity > 0 and resolution in self.fusions:
                hidden = self.fusions[resolution](hidden, features[int(resolution)], fidelity)
            for layer in others:
                hidden = layer(hidden)
            hidden = up(hidden)
        return self.conv_out(self.norm(hidden))


def adapted(codes: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
    """The map of codes with mean and deviation of the encoder's, per channel: adaptive instance normalisation (Huang
    and Belongie 2017). It keeps the photograph's colours."""
    codes_like, like = at_least_float32(codes), at_least_float32(encoded)
    (variance, mean), (wanted_variance, wanted_mean) = (
        torch.var_mean(one, dim=(2, 3), keepdim=True) for one in (codes_like, like)
    )
    gain = ((wanted_variance + 1e-5) / (variance + 1e-5)).sqrt()
    return torch.addcmul(wanted_mean, codes_like - mean, gain).to(codes.dtype)


class CodeFormerFaceEnhancer(SoundWeights, ModelMixin, ConfigMixin):
    """Restores aligned faces with CodeFormer's published network: `[B, 3, S, S]` RGB in [-1, 1] → the same, sharper.

    An encoder sees the degraded face, a transformer guesses which codes of a learned codebook a clean one would have,
    and a generator makes the face from these codes, and from the encoder's features as far as `fidelity` says.

    For published checkpoints (`hf_faceenh.convert`); the defaults are those of CodeFormer v0.1.0.

    Args:
        sample_size: side S of the faces in px.
        channels: of the maps at S, S/2, …, s = S / 2ⁿ, multiples of 32. A face has s² codes.
        code_channels: features of one code.
        codes: how many the codebook has.
        width, layers, heads: of the transformer.
        fused_resolutions: where the encoder's features join.
        fidelity: what `forward` takes where nothing is said. An enhancer with this entry has the dial.
        license: what the weights may be used for, for `hf-faceenh info` and model cards.

    Raises:
        ValueError: for a sample_size that cannot be halved so often, or a fused resolution that is not there.
    """

    _keep_in_fp32_modules = ["stem"]  # in from_pretrained; see PictureConv2d

    @register_to_config
    def __init__(
        self,
        sample_size: int = 512,
        channels: Sequence[int] = (64, 128, 128, 256, 256, 512),
        code_channels: int = 256,
        codes: int = 1024,
        width: int = 512,
        layers: int = 9,
        heads: int = 8,
        fused_resolutions: Sequence[int] = (32, 64, 128, 256),
        fidelity: float = 0.5,
        license: str | None = None,
    ):
        super().__init__()
        code_side = check_halvings(sample_size, channels)
        if missing := [side for side in fused_resolutions if side not in self._resolutions()]:
            raise ValueError(f"fused_resolutions must be some of {self._resolutions()}; got {missing[0]}.")
        check_fidelity(fidelity)
        self.encoder = Encoder(channels, code_channels, activated=False)
        self.predictor = CodePredictor(code_channels, codes, code_side**2, width, layers, heads)
        self.codebook = nn.Embedding(codes, code_channels)
        self.generator = Generator(channels[::-1], code_channels, code_side, fused_resolutions)

    def _resolutions(self) -> list[int]:
        return [self.config.sample_size >> depth for depth in range(len(self.config.channels))]

    def forward(
        self, sample: torch.Tensor, fidelity: float | None = None, return_dict: bool = True
    ) -> FaceEnhancerOutput | tuple[torch.Tensor]:
        """
        Args:
            sample: degraded faces, `[B, 3, S, S]` RGB in [-1, 1]. The result has their number type: a network in half
                precision loses least with faces in float32, which it converts itself after the first convolution.
            fidelity: w in the paper, in [0, 1]: 0 makes the face from codes alone, 1 keeps most of the degraded face;
                `config.fidelity` by default.
            return_dict: return a `FaceEnhancerOutput`; else a tuple of its `sample`.

        Raises:
            ValueError: for another shape, or a fidelity outside [0, 1].
        """
        check_faces(self, sample)
        fidelity = self.config.fidelity if fidelity is None else fidelity
        check_fidelity(fidelity)
        encoded, features = self.encoder(sample.contiguous(memory_format=torch.channels_last))
        looked_up = as_map(self.codebook(self.predictor(encoded).argmax(dim=2)))
        features = dict(zip(self._resolutions(), features, strict=False))
        return face_output(self.generator(adapted(looked_up, encoded), features, fidelity), sample, return_dict)
