"""Time of one face through GPEN-BFR-512's network against plain 3×3 convolutions of as many multiply-accumulates.

    python benchmarks/gpen_vs_convolutions.py --threads 2

They take turns in one process. Prints the medians as a Markdown table.
"""

import statistics
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from timing import by_turns, seconds
from torch import nn

from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.models.costs import multiply_accumulates
from hf_faceenh.models.gpen import GPENFaceEnhancer, gpen_config

CHANNELS, SIDE = 64, 256  # of the plain convolutions' maps


@dataclass
class Options:
    """Settings of `benchmarks/gpen_vs_convolutions.py`.

    Args:
        size: side of the face in px.
        threads: CPU threads.
        repeats: timed runs of each, after one to warm up.
        device: PyTorch's name for it.
    """

    size: Literal[256, 512, 1024] = 512
    threads: int = torch.get_num_threads()
    repeats: int = 3
    device: str = "cpu"


def contenders_of(options: Options) -> dict[str, tuple[nn.Module, torch.Tensor, int]]:
    """Name → network, input and multiply-accumulates."""
    published = {"channel_multiplier": 1, "narrow": 0.5} if options.size == 256 else {}
    with torch.device(options.device):
        enhancer = GPENFaceEnhancer(**gpen_config(options.size, **published)).eval()
        face = torch.rand(1, 3, options.size, options.size) * 2 - 1
        convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        maps = torch.rand(1, CHANNELS, SIDE, SIDE)
    macs = multiply_accumulates(enhancer, face.shape)
    one_convolution = multiply_accumulates(convolution, maps.shape)
    # The weights are shared: only the arithmetic counts here, and it keeps the maps' values in range.
    plain = nn.Sequential(*[convolution] * round(macs / one_convolution))
    channels_last = maps.contiguous(memory_format=torch.channels_last)
    return {
        f"GPEN, {options.size} px": (enhancer, face, macs),
        f"{len(plain)} convolutions": (plain, maps, len(plain) * one_convolution),
        f"{len(plain)} convolutions, channels last": (plain, channels_last, len(plain) * one_convolution),
    }


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments)
    torch.set_num_threads(options.threads)
    contenders = contenders_of(options)
    runs = {name: partial(seconds, partial(network, sample)) for name, (network, sample, _) in contenders.items()}
    with torch.inference_mode():
        times = by_turns(runs, options.repeats, warm_up=1)
    medians = {name: statistics.median(values) for name, values in times.items()}
    gpen, *_ = medians.values()
    print(f"{options.threads} threads, {options.device}, torch {torch.__version__}, median of {options.repeats}\n")
    print("| network | GMAC | seconds | GMAC/s | GPEN's time, relative |\n| --- | ---: | ---: | ---: | ---: |")
    for name, (_, _, macs) in contenders.items():
        giga, median = macs / 1e9, medians[name]
        print(f"| {name} | {giga:.1f} | {median:.3f} | {giga / median:.1f} | {gpen / median:.2f} |")


if __name__ == "__main__":
    run_script(main)
