"""Faces per second of the enhancer's training step (forward and backward) on a CPU, as each measure is added.

Each contender runs in a process of its own, because what malloc is told cannot be taken back; they take turns, so that
whatever else the machine does falls on all. The best of the turns, as a Markdown table.

    python benchmarks/training_step.py --threads 2
"""

import argparse
import subprocess
import sys
import time

import torch

from hf_faceenh.learning.allocator import keep_freed_memory
from hf_faceenh.models import FaceEnhancer

CONTENDERS = {  # name → measures
    "as PyTorch comes": (),
    "channels last": ("channels_last",),
    "and freed memory kept": ("channels_last", "keep"),
    "and bfloat16": ("channels_last", "keep", "bf16"),
    "and compiled": ("channels_last", "keep", "bf16", "compile"),
}


def seconds_per_step(measures: tuple[str, ...], batch_size: int, threads: int) -> float:
    """The fastest of five steps, after three to warm up."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if "keep" in measures:
        keep_freed_memory()
    model = FaceEnhancer().train()
    faces = torch.rand(batch_size, 3, model.config.sample_size, model.config.sample_size) * 2 - 1
    if "channels_last" in measures:
        model, faces = (x.to(memory_format=torch.channels_last) for x in (model, faces))
    if "compile" in measures:
        model.compile()

    def step() -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in measures):
            enhanced = model(faces, return_dict=False)[0]
        (enhanced - faces).abs().mean().backward()
        model.zero_grad()
        return time.perf_counter() - start

    return min([step() for _ in range(8)][3:])


def passed_on(options: argparse.Namespace) -> list[str]:
    return ["--batch_size", str(options.batch_size), "--threads", str(options.threads)]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=8, help="faces per step")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--turns", type=int, default=3, help="how often each contender runs")
    parser.add_argument("--contender", choices=CONTENDERS, help="run only this one, and print seconds per step")
    options = parser.parse_args(arguments)
    if options.contender:
        print(seconds_per_step(CONTENDERS[options.contender], options.batch_size, options.threads))
        return
    times = {name: [] for name in CONTENDERS}
    for _ in range(options.turns):
        for name in CONTENDERS:
            child = subprocess.run(
                [sys.executable, __file__, *passed_on(options), "--contender", name],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            times[name].append(float(child.stdout))
    print("| | faces per second | s per face | of the first's time |\n| --- | --- | --- | --- |")
    first = min(times["as PyTorch comes"])
    for name, values in times.items():
        best = min(values)
        rate = options.batch_size / best
        print(f"| {name} | {rate:.1f} | {1 / rate:.3f} | {best / first:.0%} |")


if __name__ == "__main__":
    main()
