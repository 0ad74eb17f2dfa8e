"""The time of the pipeline's networks in torch, in onnxruntime, and there in int8, and what int8 costs in dB.

    python benchmarks/backends.py [--threads 1 2] [--model FOLDER] [--hq SHARP --lq DEGRADED]

`--model` is a folder of `hf-faceenh export FOLDER --onnx`; by default the bundled pipeline is exported first. All take
turns in one process. With one thread, what counts is the processor's time, so that whatever else the machine does
falls on none of them; with several it is the clock's, which needs a machine that does nothing else. With aligned sharp
faces, and the same ones degraded under the same names, the PSNR of the enhancer's results is told as well.

int8 is `onnxruntime.quantization.quantize_dynamic`: weights are rounded once, maps at each convolution.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
import torch.nn.functional as F
from onnxruntime.quantization import quantize_dynamic
from photograph import photograph
from timing import by_turns, fair_clock, seconds
from torch import nn

from hf_faceenh import FaceEnhancePipeline, hub
from hf_faceenh.enhancing import enhance, parse
from hf_faceenh.learning.data import pictures_of
from hf_faceenh.learning.metrics import psnr
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.tables import markdown_table
from hf_faceenh.pictures import FaceImageProcessor
from hf_faceenh.recognition import embed

TILE = 512  # px, the pipeline's default
MEGAPIXEL = 1024  # px
BACKENDS = ("torch", "onnxruntime", "int8")


@dataclass
class Options:
    """Settings of `benchmarks/backends.py`.

    Args:
        model: folder of `hf-faceenh export FOLDER --onnx`; by default the bundled pipeline's.
        threads: CPU threads, one column each.
        repeats: timed runs of each, after one to warm up.
        hq: folder of sharp aligned faces.
        lq: folder of the same, degraded.
    """

    model: Path | None = None
    threads: list[int] = field(default_factory=lambda: [1, 2])
    repeats: int = 5
    hq: Path | None = None
    lq: Path | None = None


def quantized(folder: Path, target: Path) -> Path:
    """A copy of an exported pipeline whose ONNX files, those in single precision alone, are in int8."""
    for file in folder.rglob("*"):
        copy = target / file.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".json":
            copy.write_bytes(file.read_bytes())
        elif file.suffix == ".onnx" and ".fp16" not in file.name:
            quantize_dynamic(file, copy)
    return target


def calls(pipe: FaceEnhancePipeline) -> dict[str, Callable[[], object]]:
    """Name of a row → what it times, with each network as the pipeline calls it."""
    torch.manual_seed(0)
    size = pipe.enhancer.config.sample_size
    face, tile, megapixel = (torch.rand(1, 3, side, side) for side in (size, TILE, MEGAPIXEL))
    rows = {
        f"enhancer, a face of {size} px": partial(enhance, pipe.enhancer, face),
        "parser, a face": partial(parse, pipe.parser, face),
        "detector, 1 megapixel": partial(pipe.detector, megapixel),
        "recognizer, a face": partial(embed, pipe.recognizer, face),
    }
    for scale in pipe.super_resolver.scales:
        rows[f"super-resolver ×{scale}, {TILE}² px"] = partial(pipe.super_resolver, tile, scale=scale)
    return rows


@torch.inference_mode()
def times(pipes: Mapping[str, FaceEnhancePipeline], threads: int, repeats: int) -> dict[tuple[str, str], float]:
    """Row and backend → seconds, the median."""
    clock, found = fair_clock(threads), {}
    runs = {backend: calls(pipe) for backend, pipe in pipes.items()}
    for backend in ("torch", "onnxruntime"):  # int8 would take minutes
        runs[backend]["a photograph of 2 megapixels, five faces"] = partial(pipes[backend], photograph())
    for row in runs["torch"]:
        contenders = {backend: partial(seconds, rows[row], clock) for backend, rows in runs.items() if row in rows}
        for backend, values in by_turns(contenders, repeats, warm_up=1).items():
            found[row, backend] = median(values)
    return found


@torch.inference_mode()
def quality(enhancers: Mapping[str, nn.Module], hq: Path, lq: Path) -> list[list[str]]:
    """For each enhancer the mean PSNR of its results against the sharp faces, and against torch's results."""
    figures, size = {backend: [] for backend in enhancers}, enhancers["torch"].config.sample_size
    for path in pictures_of("--lq", lq):
        degraded, sharp = (face_of(folder / path.name, size) for folder in (lq, hq))
        results = {backend: as_bytes(enhance(enhancer, degraded)) for backend, enhancer in enhancers.items()}
        for backend, result in results.items():
            figures[backend].append((psnr(result, as_bytes(sharp)), psnr(result, results["torch"])))
    means = {backend: [mean(values) for values in zip(*rows, strict=True)] for backend, rows in figures.items()}
    return [[backend, *(f"{value:.2f}" for value in values)] for backend, values in means.items()]


def face_of(path: Path, size: int) -> torch.Tensor:
    """`[1, 3, size, size]` in [0, 1]."""
    face = FaceImageProcessor().load(path).pixels[None]
    return F.interpolate(face, (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def as_bytes(face: torch.Tensor) -> np.ndarray:
    return (face[0] * 255).round().byte().permute(1, 2, 0).numpy()


def loaded(folder: Path, int8: Path) -> dict[str, FaceEnhancePipeline]:
    """With as many threads as torch has now."""
    pipes = {
        "torch": FaceEnhancePipeline.from_pretrained(folder),
        "onnxruntime": FaceEnhancePipeline.from_pretrained(folder, backend="onnx"),
        "int8": FaceEnhancePipeline.from_pretrained(int8, backend="onnx"),
    }
    for pipe in pipes.values():
        pipe.set_progress_bar_config(disable=True)
    return pipes


def _cell(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.3f}"


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments, several=("threads",))
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model or hub.export(Path(scratch) / "model", FaceEnhancePipeline.from_pretrained(), onnx=True)
        int8 = quantized(folder, Path(scratch) / "int8")
        columns = {}
        for threads in options.threads:
            torch.set_num_threads(threads)
            pipes = loaded(folder, int8)
            columns |= {(threads, *key): one for key, one in times(pipes, threads, options.repeats).items()}
        rows = list(dict.fromkeys(row for _, row, _ in columns))
        heads = [(threads, backend) for threads in options.threads for backend in BACKENDS]
        lines = [[row, *(_cell(columns.get((threads, row, backend))) for threads, backend in heads)] for row in rows]
        titles = [f"{backend}, {threads} thread{'s' * (threads > 1)}" for threads, backend in heads]
        print(markdown_table(["seconds", *titles], lines))
        if options.hq and options.lq:
            figures = quality({backend: pipe.enhancer for backend, pipe in pipes.items()}, options.hq, options.lq)
            print("\n" + markdown_table(["enhancer", "PSNR in dB", "against torch's results"], figures))


if __name__ == "__main__":
    run_script(main)
