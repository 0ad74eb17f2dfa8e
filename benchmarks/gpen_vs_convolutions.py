"""Time of one face through GPEN-BFR-512's network against plain 3×3 convolutions of as many multiply-accumulates.

Both run in turn in one process, so that whatever else the machine does falls on both; medians, as a Markdown table.

    python benchmarks/gpen_vs_convolutions.py --threads 2
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hf_faceenh.models.gpen import GPENFaceEnhancer, gpen_config

CHANNELS, SIDE = 64, 256  # of the plain convolutions' maps


def multiply_accumulates(network: Callable, sample: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        network(sample)
    return counter.get_total_flops() // 2


def seconds(network: Callable, sample: torch.Tensor) -> float:
    start = time.perf_counter()
    network(sample)
    if sample.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="side of the face in px: 256, 512 or 1024")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each, after one to warm up")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    published = {"channel_multiplier": 1, "narrow": 0.5} if arguments.size == 256 else {}
    with torch.device(arguments.device):
        enhancer = GPENFaceEnhancer(**gpen_config(arguments.size, **published)).eval()
        face = torch.rand(1, 3, arguments.size, arguments.size) * 2 - 1
        convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        maps = torch.rand(1, CHANNELS, SIDE, SIDE)

    macs = multiply_accumulates(enhancer, face)
    one_convolution = multiply_accumulates(convolution, maps)
    # The weights are shared: only the arithmetic counts here, and it keeps the maps' values in range.
    plain = nn.Sequential(*[convolution] * round(macs / one_convolution))
    contenders = {
        f"GPEN, {arguments.size} px": (enhancer, face, macs),
        f"{len(plain)} convolutions": (plain, maps, len(plain) * one_convolution),
        f"{len(plain)} convolutions, channels last": (
            plain,
            maps.contiguous(memory_format=torch.channels_last),
            len(plain) * one_convolution,
        ),
    }

    times = {name: [] for name in contenders}
    for _ in range(1 + arguments.repeats):
        for name, (network, sample, _) in contenders.items():
            times[name].append(seconds(network, sample))
    medians = {name: statistics.median(measured[1:]) for name, measured in times.items()}

    model_time = medians[f"GPEN, {arguments.size} px"]
    print(
        f"{arguments.threads} threads, {arguments.device}, torch {torch.__version__}, median of {arguments.repeats}\n"
    )
    print("| network | GMAC | seconds | GMAC/s | GPEN's time, relative |\n| --- | ---: | ---: | ---: | ---: |")
    for name, (_, _, count) in contenders.items():
        median = medians[name]
        print(
            f"| {name} | {count / 1e9:.1f} | {median:.3f} | {count / 1e9 / median:.1f} | {model_time / median:.2f} |"
        )


if __name__ == "__main__":
    main()
