"""Time of one batch of faces through the published enhancers: ours, computed the way published code does, and as plain
3×3 convolutions of as many multiply-accumulates.

    python benchmarks/published_enhancers.py --threads 2
    python benchmarks/published_enhancers.py --families gfpgan --batch_size 4

They take turns in one process; weights are random. Prints the medians as a Markdown table, and how far the results of
both ways lie apart. With one thread, what counts is the processor's time, so that whatever else the machine does falls
on none of them; with several it is the clock's, which needs a machine that does nothing else.
"""

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import MethodType

import torch
import torch.nn.functional as F
from timing import by_turns, fair_clock, seconds
from torch import nn

from hf_faceenh.allocator import keep_freed_memory
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.models import CodeFormerFaceEnhancer, GFPGANFaceEnhancer, GPENFaceEnhancer, RestoreFormerFaceEnhancer
from hf_faceenh.models.codeformer import TransformerLayer
from hf_faceenh.models.costs import multiply_accumulates
from hf_faceenh.models.gfpgan import DoublingBlock, GFPGANStyledConv2d, GFPGANToRGB
from hf_faceenh.models.layers import ACTIVATION_GAIN, SLOPE, Blur, EqualizedConv2d, StyledConv2d, ToRGB
from hf_faceenh.models.vqgan import Attention, Upsample

CHANNELS, SIDE = 64, 256  # of the plain convolutions' maps
FAMILIES = {
    "gpen": GPENFaceEnhancer,
    "gfpgan": GFPGANFaceEnhancer,
    "codeformer": CodeFormerFaceEnhancer,
    "restoreformer": RestoreFormerFaceEnhancer,
}


@dataclass
class Options:
    """Settings of `benchmarks/published_enhancers.py`.

    Args:
        families: which of gpen, gfpgan, codeformer and restoreformer.
        batch_size: faces at once.
        threads: CPU threads.
        repeats: timed runs of each, after one to warm up.
        device: PyTorch's name for it.
        keep_memory: whether freed memory is kept, as our commands do, for all contenders.
    """

    families: list[str] = field(default_factory=lambda: list(FAMILIES))
    batch_size: int = 1
    threads: int = torch.get_num_threads()
    repeats: int = 3
    device: str = "cpu"
    keep_memory: bool = False


# The published way: one convolution per face, in groups; attention and codebook as products of whole matrices


def per_face_convolution(
    hidden: torch.Tensor, weight: torch.Tensor, modulation: torch.Tensor, demodulate: bool, upsample: bool = False
) -> torch.Tensor:
    """Each face has weights of its own `[B, O, I, k, k]`, and is a group of one convolution."""
    batch, channels, *size = hidden.shape
    weights = weight * modulation[:, None, :, None, None]
    if demodulate:
        weights = weights * torch.rsqrt(weights.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    hidden = hidden.contiguous().reshape(1, batch * channels, *size)
    if upsample:
        hidden = F.conv_transpose2d(hidden, weights.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
    else:
        hidden = F.conv2d(hidden, weights.flatten(0, 1), padding=weight.shape[-1] // 2, groups=batch)
    return hidden.unflatten(1, (batch, -1))[0]


def gpen_convolution(self: StyledConv2d, hidden, noise, style):
    modulation = self.modulation(style) / self.weight[0].numel() ** 0.5
    hidden = per_face_convolution(hidden, self.weight, modulation, demodulate=True, upsample=self.blur is not None)
    hidden = hidden if self.blur is None else self.blur(hidden)
    hidden = torch.cat([hidden, self.noise_weight * noise], dim=1)
    return F.leaky_relu(hidden + self.bias[:, None, None], SLOPE) * ACTIVATION_GAIN


def blur(self: Blur, hidden):
    """Each channel as a picture of its own."""
    padded = F.pad(hidden, [self.padding] * 4)
    blurred = F.conv2d(padded.reshape(-1, 1, *padded.shape[2:]), self.kernel[None, None], stride=self.stride)
    return blurred.unflatten(0, hidden.shape[:2])[:, :, 0]


def gpen_to_rgb(self: ToRGB, hidden, style):
    modulation = self.modulation(style) / self.weight.shape[1] ** 0.5
    return rgb(self, hidden, modulation)


def rgb(self: ToRGB | GFPGANToRGB, hidden, modulation):
    image = per_face_convolution(hidden, self.weight[:, :, None, None], modulation, demodulate=False)
    return image + self.bias[:, None, None]


def gfpgan_convolution(self: GFPGANStyledConv2d, hidden, style):
    if self.upsample:
        hidden = F.interpolate(hidden, scale_factor=2, mode="bilinear")
    hidden = per_face_convolution(hidden, self.weight, self.modulation(style), demodulate=True)
    hidden = hidden * ACTIVATION_GAIN + self.noise_weight * self.noise
    return F.leaky_relu(hidden + self.bias[:, None, None], SLOPE)


def gfpgan_to_rgb(self: GFPGANToRGB, hidden, style):
    return rgb(self, hidden, self.modulation(style))


def doubling(self: DoublingBlock, hidden):
    up = partial(F.interpolate, scale_factor=2, mode="bilinear")
    change = F.leaky_relu(self.conv2(up(F.leaky_relu(self.conv1(hidden), SLOPE))), SLOPE)
    return change + self.skip(up(hidden))


def upsampling(self: Upsample, hidden):
    return self.conv(F.interpolate(hidden, scale_factor=2, mode="nearest"))


def attention(self: Attention, hidden, guide=None):
    batch, channels, *size = hidden.shape
    normed = self.norm(hidden)
    seekers = normed if guide is None else self.guide_norm(guide)
    q, k, v = (
        F.conv2d(maps, layer.weight[:, :, None, None], layer.bias).reshape(batch * self.heads, -1, size[0] * size[1])
        for layer, maps in ((self.q, seekers), (self.k, normed), (self.v, normed))
    )
    shares = (torch.bmm(q.mT, k) * q.shape[1] ** -0.5).softmax(dim=2)
    found = torch.bmm(v, shares.mT).reshape(batch, channels, *size)
    return hidden + F.conv2d(found, self.proj_out.weight[:, :, None, None], self.proj_out.bias)


def transformer_layer(self: TransformerLayer, hidden, position):
    values = self.norm1(hidden)
    places = values + position
    hidden = hidden + self.self_attn(places, places, values, need_weights=True)[0]
    return hidden + self.linear2(F.gelu(self.linear1(self.norm2(hidden))))


def look_up(self: nn.Embedding, codes):
    """One row per place with a single 1, times the codebook. RestoreFormer's first finds the nearest code."""
    if codes.is_floating_point():
        places = codes.permute(0, 2, 3, 1).flatten(0, 2)
        squares = places.square().sum(1, keepdim=True) + self.weight.square().sum(1)
        nearest = (squares - 2 * places @ self.weight.T).argmin(1)
        found = F.one_hot(nearest, len(self.weight)).float() @ self.weight
        return found.reshape(len(codes), *codes.shape[2:], -1).permute(0, 3, 1, 2).contiguous()
    return F.one_hot(codes, len(self.weight)).float() @ self.weight


PUBLISHED: dict[type[nn.Module], Callable] = {
    StyledConv2d: gpen_convolution,
    Blur: blur,
    ToRGB: gpen_to_rgb,
    GFPGANStyledConv2d: gfpgan_convolution,
    GFPGANToRGB: gfpgan_to_rgb,
    DoublingBlock: doubling,
    Upsample: upsampling,
    Attention: attention,
    TransformerLayer: transformer_layer,
}


def as_published(enhancer: nn.Module) -> nn.Module:
    """The same network, which computes the same in the published way, with channels outermost."""
    twin = copy.deepcopy(enhancer).to(memory_format=torch.contiguous_format)
    for module in twin.modules():
        forward = look_up if isinstance(module, nn.Embedding) else PUBLISHED.get(type(module))
        if forward is not None:
            module.forward = MethodType(forward, module)
        if isinstance(module, (nn.Conv2d, EqualizedConv2d)):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    return twin


def contenders_of(family: str, options: Options) -> dict[str, Callable[[], torch.Tensor]]:
    torch.manual_seed(0)
    with torch.device(options.device):
        enhancer = FAMILIES[family]().eval().to(memory_format=torch.channels_last)
        size = enhancer.config.sample_size
        faces = torch.rand(options.batch_size, 3, size, size) * 2 - 1
        convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(memory_format=torch.channels_last)
        maps = torch.rand(1, CHANNELS, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    count = round(multiply_accumulates(enhancer, faces.shape) / multiply_accumulates(convolution, maps.shape))
    # The weights are shared: only the arithmetic counts here, and it keeps the maps' values in range.
    plain = nn.Sequential(*[convolution] * count)
    published = as_published(enhancer)
    return {
        "ours": lambda: enhancer(faces).sample,
        "the published way": lambda: published(faces).sample,
        f"{count} convolutions": lambda: plain(maps),
    }


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments, several=("families",))
    if unknown := set(options.families) - set(FAMILIES):
        raise ValueError(f"--families must be some of {', '.join(FAMILIES)}; got {min(unknown)}.")
    torch.set_num_threads(options.threads)
    if options.keep_memory:
        keep_freed_memory()
    print(f"{options.threads} threads, {options.device}, torch {torch.__version__}, {options.batch_size} faces,")
    print(f"median seconds of {options.repeats}\n")
    print("| family | GMAC | ours | published way | convolutions | ours / published | ours / convolutions | apart |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for family in options.families:
        contenders = contenders_of(family, options)
        with torch.inference_mode():
            ours, published, _ = (run() for run in contenders.values())
            apart = float((ours - published).abs().max() / published.abs().max())
            clock = fair_clock(options.threads, options.device)
            times = by_turns({name: partial(seconds, run, clock) for name, run in contenders.items()}, options.repeats)
        mine, theirs, plain = (statistics.median(values) for values in times.values())
        giga = multiply_accumulates(FAMILIES[family](), (options.batch_size, 3, 512, 512)) / 1e9
        print(
            f"| {family} | {giga:.1f} | {mine:.3f} | {theirs:.3f} | {plain:.3f} | {mine / theirs:.2f} | "
            f"{mine / plain:.2f} | {apart:.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    run_script(main)
