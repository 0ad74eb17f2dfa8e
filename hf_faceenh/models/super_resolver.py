"""SuperResolver: upscales whole photographs (Real-ESRGAN's two architectures, Wang et al. 2021, and two of ours)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn

from .checkpointing import checkpointed
from .layers import SLOPE
from .precision import PictureConv2d, at_least_float32, map_dtype
from .soundness import SoundWeights

ARCHITECTURES = ("cells", "compact", "residual", "rrdb")
SCALES = (1, 2, 4)
CELL = 2  # px: side of the cells of "cells"
AROUND = 5  # side of the square of input pixels whose range bounds an output without ringing
BEYOND = 1 / 255  # how far an output may lie outside that range


@dataclass
class SuperResolverOutput(BaseOutput):
    """What a super-resolver returns.

    Args:
        sample: the upscaled pictures, `[B, 3, sH, sW]` RGB in [0, 1], not clamped, in the number type of those given.
    """

    sample: torch.Tensor


class DenseBlock(nn.Module):
    """Five 3×3 convolutions, each of which sees all outputs before it; the sum with the input."""

    def __init__(self, num_feat: int, num_grow_ch: int):
        super().__init__()
        for i in range(1, 5):
            setattr(self, f"conv{i}", nn.Conv2d(num_feat + (i - 1) * num_grow_ch, num_grow_ch, 3, padding=1))
        self.conv5 = nn.Conv2d(num_feat + 4 * num_grow_ch, num_feat, 3, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        seen = [hidden]
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1)), SLOPE))
        return self.conv5(torch.cat(seen, 1)) * 0.2 + hidden


class ResidualInResidualDenseBlock(nn.Module):
    """Three dense blocks; the sum with the input."""

    def __init__(self, num_feat: int, num_grow_ch: int):
        super().__init__()
        self.rdb1 = DenseBlock(num_feat, num_grow_ch)
        self.rdb2 = DenseBlock(num_feat, num_grow_ch)
        self.rdb3 = DenseBlock(num_feat, num_grow_ch)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.rdb3(self.rdb2(self.rdb1(hidden))) * 0.2 + hidden


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, the sum with the input (Lim et al. 2017)."""

    def __init__(self, num_feat: int):
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.activation = nn.PReLU(num_feat)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.activation(self.conv1(hidden))).add_(hidden)


def within_range(image: torch.Tensor, sample: torch.Tensor, scale: int) -> torch.Tensor:
    """The upscaled `image`, every pixel clamped to the range of the input pixels around it, as video players do
    against ringing (mpv's `scale-antiring`), and a little beyond."""
    lowest = -F.max_pool2d(-sample, AROUND, stride=1, padding=AROUND // 2) - BEYOND
    highest = F.max_pool2d(sample, AROUND, stride=1, padding=AROUND // 2) + BEYOND
    lowest, highest = (F.interpolate(bound, scale_factor=scale, mode="nearest") for bound in (lowest, highest))
    return image.clamp(lowest, highest)


def within_cells(image: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """As `within_range`, before the pixel-shuffle, where it costs a tenth: the range is that of the cell and the eight
    around it.

    Args:
        image: `[B, 3r², h, w]`, to be shuffled; clamped in place.
        cells: `[B, 3·4, h + 2, w + 2]`, the input's pixels.
    """
    pixels = cells.unflatten(1, (3, -1))
    lowest = -F.max_pool2d(-pixels.amin(2), 3, stride=1) - BEYOND
    highest = F.max_pool2d(pixels.amax(2), 3, stride=1) + BEYOND
    parts = image.unflatten(1, (3, -1))
    return parts.clamp(lowest.unsqueeze(2), highest.unsqueeze(2)).flatten(1, 2)


def compact_layers(num_feat: int, num_conv: int, scale: int) -> nn.ModuleList:
    """3×3 convolutions with PReLU, the last one without, under the numbers of the published `SRVGGNetCompact`."""
    layers = [nn.Conv2d(3, num_feat, 3, padding=1), nn.PReLU(num_feat)]
    for _ in range(num_conv):
        layers += [nn.Conv2d(num_feat, num_feat, 3, padding=1), nn.PReLU(num_feat)]
    return nn.ModuleList([*layers, nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1)])


class SuperResolver(SoundWeights, ModelMixin, ConfigMixin):
    """Upscales pictures by `config.scale`: `[B, 3, H, W]` RGB in [0, 1] → `[B, 3, sH, sW]`, any H, W ≥ 1.

    The modules of "compact" and "rrdb" have the key names of the published state dicts: those of `SRVGGNetCompact`
    (`body.i`) and of `RRDBNet` (`conv_first`, `body.i.rdbj.convk`, …).

    Args:
        architecture: "cells" (residual blocks over cells of 2×2 px, where a convolution of the same cost sees twice as
            far, then a pixel-shuffle; added to one convolution's linear upscaling), "compact" (3×3 convolutions with
            PReLU at the input's size, then a pixel-shuffle; added to the upscaled input), "residual" ("cells" of one
            scale without denoising, added to the input upscaled with bilinear interpolation: slower) or "rrdb"
            (residual-in-residual dense blocks, then twice ×2).
        scale: 1, 2 or 4. RRDB always upscales its feature maps by 4; scales 2 and 1 start with a pixel-unshuffle by
            2 and 4.
        scales: cells: all factors that the network reaches in one pass, each with its own last convolutions; `scale`,
            the one that `forward` takes if none is named, is among them. By default `scale` alone.
        denoising: cells, compact: whether `forward` takes a wanted amount of denoising. Cells see it as a constant
            channel (as FFDNet's noise level, Zhang et al. 2018). A compact network has a second one of its kind,
            `weak`, which keeps noise, and computes with weights between the two (Wang et al. 2019, "Deep network
            interpolation").
        num_feat: channels of the feature maps.
        num_conv: compact: convolutions between the first and the last one.
        num_block: cells, residual: residual blocks; rrdb: residual-in-residual dense blocks.
        num_grow_ch: rrdb: output channels of the convolutions inside a dense block.
        anti_ringing: keep every output pixel within the range of the 5×5 input pixels around it (cells: of the
            3×3 cells), ± 1/255: a network that learned from photographs learned the bright and dark seams that cameras
            draw beside edges.
        license: what the weights may be used for, for `hf-faceenh info` and model cards.

    Raises:
        ValueError: for an unknown architecture or scale, and for what the architecture does not have.
    """

    _keep_in_fp32_modules = ["conv_first", "linear"]  # in from_pretrained; see PictureConv2d
    _supports_gradient_checkpointing = True  # of the blocks; a compact network, which has none, keeps little

    @register_to_config
    def __init__(
        self,
        architecture: str = "compact",
        scale: int = 2,
        num_feat: int = 32,
        num_conv: int = 6,
        num_block: int = 23,
        num_grow_ch: int = 32,
        anti_ringing: bool = False,
        license: str | None = None,
        scales: Sequence[int] | None = None,
        denoising: bool = False,
    ):
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(f"SuperResolver architecture must be one of {ARCHITECTURES}; got {architecture!r}.")
        if scale not in SCALES:
            raise ValueError(f"SuperResolver scale must be one of {SCALES}; got {scale!r}.")
        if scales is not None and not (scale in scales and set(scales) <= set(SCALES)):
            raise ValueError(f"SuperResolver scales must be some of {SCALES}, {scale} among them; got {scales!r}.")
        if architecture != "cells" and self.scales != (scale,):
            raise ValueError(f'Only a SuperResolver of "cells" has several scales; got {architecture!r}.')
        if architecture not in ("cells", "compact") and denoising:
            raise ValueError(f'Only a SuperResolver of "cells" or "compact" has denoising; got {architecture!r}.')
        if architecture == "cells":
            channels, sizes = 3 * CELL**2 + denoising, {str(one): 3 * (CELL * one) ** 2 for one in self.scales}
            self.conv_first = PictureConv2d(channels, num_feat, 3)  # the cells around the picture are there already
            self.body = nn.ModuleList(ResidualBlock(num_feat) for _ in range(num_block))
            self.linear = nn.ModuleDict({key: PictureConv2d(channels, size, 3) for key, size in sizes.items()})
            self.details = nn.ModuleDict({key: nn.Conv2d(num_feat, size, 3, padding=1) for key, size in sizes.items()})
        elif architecture == "compact":
            self.body = compact_layers(num_feat, num_conv, scale)
            if denoising:
                self.weak = compact_layers(num_feat, num_conv, scale)
        elif architecture == "residual":
            self.conv_first = PictureConv2d(3 * self._unshuffle**2, num_feat, 3, padding=1)
            self.body = nn.ModuleList(ResidualBlock(num_feat) for _ in range(num_block))
            self.conv_last = nn.Conv2d(num_feat, 3 * (self._unshuffle * scale) ** 2, 3, padding=1)
        else:
            self.conv_first = PictureConv2d(3 * self._unshuffle**2, num_feat, 3, padding=1)
            self.body = nn.ModuleList(ResidualInResidualDenseBlock(num_feat, num_grow_ch) for _ in range(num_block))
            for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
                setattr(self, name, nn.Conv2d(num_feat, num_feat, 3, padding=1))
            self.conv_last = nn.Conv2d(num_feat, 3, 3, padding=1)
        self.gradient_checkpointing = False

    @property
    def scales(self) -> tuple[int, ...]:
        """The factors that it reaches in one pass."""
        return tuple(self.config.scales or (self.config.scale,))

    @property
    def _unshuffle(self) -> int:
        return {"cells": CELL, "compact": 1, "residual": 2, "rrdb": 4 // self.config.scale}[self.config.architecture]

    @property
    def receptive_radius(self) -> int:
        """How many input pixels to each side, at most, an output pixel depends on."""
        if self.config.architecture == "compact":
            return self.config.num_conv + 2
        if self.config.architecture in ("cells", "residual"):
            # The last pixel of a cell is one pixel further away.
            return (2 * self.config.num_block + 2) * self._unshuffle + self._unshuffle - 1
        # 3×3 convolutions at the feature maps' size, at ×2 and twice at ×4, in pixels of the feature maps, rounded up;
        # the last pixel of such a cell is up to one cell further away.
        at_feature_size = 1 + 15 * self.config.num_block + 1
        return (at_feature_size + 2) * self._unshuffle

    def _cells(self, sample: torch.Tensor, scale: int, denoise: float | torch.Tensor) -> torch.Tensor:
        height, width = sample.shape[-2:]
        padded = F.pad(sample, (CELL, CELL + width % CELL, CELL, CELL + height % CELL), mode="replicate")
        pixels = F.pixel_unshuffle(padded, CELL)  # [B, 12, h + 2, w + 2]
        cells = pixels
        if self.config.denoising:
            amount = torch.as_tensor(denoise, dtype=pixels.dtype, device=pixels.device).reshape(-1, 1, 1, 1)
            cells = torch.cat([pixels, amount.expand(pixels.shape[0], 1, *pixels.shape[2:])], 1)
        cells = cells.contiguous(memory_format=torch.channels_last)
        details = self.details[str(scale)]
        hidden = self._blocks(self.conv_first(cells).to(map_dtype(details.weight)))
        image = self.linear[str(scale)](cells).add_(details(hidden))
        if self.config.anti_ringing:
            image = within_cells(image, pixels)
        return F.pixel_shuffle(image, CELL * scale)[..., : height * scale, : width * scale]

    def _compact(self, sample: torch.Tensor, denoise: float | torch.Tensor) -> torch.Tensor:
        hidden = sample.to(self.body[0].weight.dtype)
        for index, layer in enumerate(self.body):
            hidden = self._interpolated(index, hidden, denoise) if self.config.denoising else layer(hidden)
        scale = self.config.scale
        upscaled = F.interpolate(sample, scale_factor=scale, mode="nearest")
        return at_least_float32(F.pixel_shuffle(hidden, scale)) + upscaled

    def _interpolated(self, index: int, hidden: torch.Tensor, denoise: float | torch.Tensor) -> torch.Tensor:
        layer, weak = self.body[index], self.weak[index]
        amount = torch.as_tensor(denoise, dtype=hidden.dtype, device=hidden.device)
        weight, *bias = (
            torch.lerp(value, layer.get_parameter(name), amount) for name, value in weak.named_parameters()
        )
        return F.conv2d(hidden, weight, *bias, padding=1) if bias else F.prelu(hidden, weight)

    def _residual(self, sample: torch.Tensor) -> torch.Tensor:
        scale = self.config.scale
        shuffled = F.pixel_shuffle(self.conv_last(self._blocks(self._first(sample))), self._unshuffle * scale)
        height, width = (side * scale for side in sample.shape[-2:])
        upscaled = F.interpolate(sample, scale_factor=scale, mode="bilinear")
        return at_least_float32(shuffled[..., :height, :width]) + upscaled

    def _first(self, sample: torch.Tensor) -> torch.Tensor:
        """The feature maps that go into the blocks."""
        height, width = sample.shape[-2:]
        factor = self._unshuffle
        sample = F.pad(sample, (0, -width % factor, 0, -height % factor), mode="replicate")
        return self.conv_first(F.pixel_unshuffle(sample, factor)).to(map_dtype(self.conv_last.weight))

    def _blocks(self, hidden: torch.Tensor) -> torch.Tensor:
        for block in self.body:
            hidden = checkpointed(self, block, hidden)
        return hidden

    def _rrdb(self, sample: torch.Tensor) -> torch.Tensor:
        height, width = sample.shape[-2:]
        scale = self.config.scale
        first = self._first(sample)
        hidden = first + self.conv_body(self._blocks(first))
        for conv in (self.conv_up1, self.conv_up2):
            hidden = F.leaky_relu(conv(F.interpolate(hidden, scale_factor=2, mode="nearest")), SLOPE)
        image = self.conv_last(F.leaky_relu(self.conv_hr(hidden), SLOPE))
        return image[..., : height * scale, : width * scale]

    def check_input(self, sample: torch.Tensor, scale: int, denoise: float | torch.Tensor | None) -> None:
        """
        Raises:
            ValueError: as `forward`.
        """
        if sample.ndim != 4 or sample.shape[1] != 3 or 0 in sample.shape[2:]:
            raise ValueError(
                f"SuperResolver expects [B, 3, H, W] in [0, 1]; got {list(sample.shape)}. "
                "Convert the picture to RGB and drop the alpha channel first."
            )
        if scale not in self.scales:
            raise ValueError(f"This SuperResolver upscales by {' or '.join(map(str, self.scales))}; got {scale!r}.")
        if denoise is not None and not self.config.denoising:
            raise ValueError("This SuperResolver has no wanted amount of denoising. Leave denoise out.")

    def forward(
        self,
        sample: torch.Tensor,
        return_dict: bool = True,
        scale: int | None = None,
        denoise: float | torch.Tensor | None = None,
    ) -> SuperResolverOutput | tuple[torch.Tensor]:
        """
        Args:
            sample: pictures, `[B, 3, H, W]` RGB in [0, 1]. The result has their number type: a network in half
                precision loses least with pictures in float32, to which it adds what its convolutions found.
            return_dict: return a `SuperResolverOutput`; else a tuple of its one entry.
            scale: one of `scales`; by default `config.scale`.
            denoise: how much of the pictures' grain and noise is removed, in [0, 1], one number, or for cells `[B]`: 0
                upscales it like the picture, 1, the default, removes it. Only with `config.denoising`; the others
                remove it as they learned to.

        Raises:
            ValueError: for another shape, another scale, or `denoise` where there is none.
        """
        scale = self.config.scale if scale is None else scale
        self.check_input(sample, scale, denoise)
        picture, amount = at_least_float32(sample), 1.0 if denoise is None else denoise
        if self.config.architecture == "cells":
            image = self._cells(picture, scale, amount)
        else:
            options = (amount,) if self.config.architecture == "compact" else ()
            image = getattr(self, f"_{self.config.architecture}")(picture, *options)
            if self.config.anti_ringing:
                image = within_range(image, picture, scale)
        image = image.to(sample.dtype)
        return SuperResolverOutput(sample=image) if return_dict else (image,)
