"""What the networks of aligned faces share: the enhancers' output and forward pass, and the checks of sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput


@dataclass
class FaceEnhancerOutput(BaseOutput):
    """What a face enhancer returns.

    Args:
        sample: the enhanced faces, `[B, 3, S, S]` RGB in [-1, 1], not clamped, in the number type of the faces given.
        noise_features: the convolutional network's output at every resolution, from the first down to 4×4, each
            `[B, C, r, r]`; `None` unless asked for.
        attribute_feature: the linear mapping network's output, `[B, D]`; `None` unless asked for.
    """

    sample: torch.Tensor
    noise_features: tuple[torch.Tensor, ...] | None = None
    attribute_feature: torch.Tensor | None = None


def check_faces(model: ModelMixin, sample: torch.Tensor) -> None:
    """Raises a `ValueError` unless `sample` is `[B, 3, S, S]` with S = `model.config.sample_size`."""
    size = model.config.sample_size
    if sample.ndim != 4 or tuple(sample.shape[1:]) != (3, size, size):
        is_rgb = sample.ndim == 4 and sample.shape[1] == 3
        hint = "Resize or align the faces first" if is_rgb else "Drop the alpha channel"
        raise ValueError(
            f"{type(model).__name__} expects [B, 3, {size}, {size}] in [-1, 1]; got {list(sample.shape)}. "
            f"{hint}, or pass the picture through FaceEnhancePipeline."
        )


def check_resolutions(
    sample_size: int, encoder_channels: Sequence, decoder_channels: Sequence, patch_size: int = 1
) -> None:
    """Raises a `ValueError` unless S/p = `sample_size` / `patch_size` is a power of two from 8 up, and encoder and
    decoder each have one entry per resolution S/p, S/2p, …, 4."""
    if patch_size < 1 or sample_size % patch_size:
        raise ValueError(f"sample_size must be a multiple of patch_size; got {sample_size} and {patch_size}.")
    first = sample_size // patch_size
    resolutions = int(math.log2(first)) - 1
    if first != 2 ** (resolutions + 1) or first < 8:
        of = f"sample_size / patch_size, {sample_size} / {patch_size}," if patch_size > 1 else "sample_size"
        raise ValueError(f"{of} must be a power of two from 8 up; got {first}.")
    for name, channels in (("encoder_channels", encoder_channels), ("decoder_channels", decoder_channels)):
        if len(channels) != resolutions:
            raise ValueError(
                f"sample_size {sample_size} has {resolutions} resolutions; {name} has {len(channels)} entries."
            )


def check_stages(decoder_channels: Sequence[Sequence[int]]) -> None:
    """Raises a `ValueError` unless StyleGAN2's generator has one convolution at 4×4 and two at all that follow."""
    if [len(counts) for counts in decoder_channels] != [1] + [2] * (len(decoder_channels) - 1):
        raise ValueError(
            f"decoder_channels needs one entry at 4×4 and two at every other resolution; got {decoder_channels}."
        )


def check_counts(sample_size: int, count: int, **channels: Sequence) -> None:
    """Raises a `ValueError` unless each of `channels` has `count` entries."""
    for name, entries in channels.items():
        if len(entries) != count:
            raise ValueError(f"{name} needs {count} entries at sample_size {sample_size}; got {len(entries)}.")


def check_halvings(sample_size: int, channels: Sequence[int]) -> int:
    """The side of the last of as many maps as `channels` has entries, each half as large as the one before.

    Raises:
        ValueError: unless `sample_size` can be halved so often.
    """
    side = sample_size >> (len(channels) - 1)
    if side < 1 or side << (len(channels) - 1) != sample_size:
        raise ValueError(f"sample_size must be a multiple of {1 << (len(channels) - 1)}; got {sample_size}.")
    return side


def check_fidelity(fidelity: float) -> None:
    """Raises a `ValueError` unless it lies in [0, 1]."""
    if not 0 <= fidelity <= 1:
        raise ValueError(f"fidelity must lie in [0, 1]; got {fidelity!r}.")


def face_output(
    image: torch.Tensor, sample: torch.Tensor, return_dict: bool
) -> FaceEnhancerOutput | tuple[torch.Tensor]:
    """What an enhancer without features returns: `image` in the number type of the faces given, `sample`."""
    output = FaceEnhancerOutput(sample=image.contiguous().to(sample.dtype))
    return output if return_dict else output.to_tuple()


class ThreeNetworks:
    """The forward pass of an enhancer made of GPEN's three networks, which the model builds: `convolutional_network`
    (face → noise features), `mapping_network` (the last of them → attribute feature) and `generating_network` (both →
    image).
    """

    _supports_gradient_checkpointing = True

    def forward(
        self, sample: torch.Tensor, return_features: bool = False, return_dict: bool = True
    ) -> FaceEnhancerOutput | tuple[torch.Tensor, ...]:
        """
        Args:
            sample: degraded faces, `[B, 3, S, S]` RGB in [-1, 1]. The result has their number type: a network in half
                precision loses least with faces in float32, which it converts itself after the first convolution.
            return_features: also return the noise features and the attribute feature.
            return_dict: return a `FaceEnhancerOutput`; else a tuple of its entries that are not `None`.

        Raises:
            ValueError: for another shape.
        """
        check_faces(self, sample)
        # Convolutions, and channel-wise scaling even more so, are faster with the channels innermost.
        faces = sample.contiguous(memory_format=torch.channels_last)
        noise_features = self.convolutional_network(faces)
        attribute_feature = self.mapping_network(noise_features[-1].flatten(1))
        image = self._image(faces, self.generating_network(noise_features, attribute_feature))
        output = FaceEnhancerOutput(
            sample=image.to(sample.dtype),
            noise_features=noise_features if return_features else None,
            attribute_feature=attribute_feature if return_features else None,
        )
        return output if return_dict else output.to_tuple()

    def _image(self, faces: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        """The enhanced faces, from the degraded ones and what the generating network made."""
        raise NotImplementedError
