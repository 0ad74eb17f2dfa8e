"""Faces per second of the enhancer's training step (forward and backward) on a CPU, as each measure is added.

    python benchmarks/training_step.py --threads 2

Each contender runs in a process of its own, because what malloc is told cannot be taken back; they take turns. Prints
the best of the turns as a Markdown table.
"""

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from timing import by_turns, seconds

from hf_faceenh.allocator import keep_freed_memory
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.tables import markdown_table
from hf_faceenh.models import FaceEnhancer

CONTENDERS = {  # name → measures
    "as PyTorch comes": (),
    "channels last": ("channels_last",),
    "and freed memory kept": ("channels_last", "keep"),
    "and bfloat16": ("channels_last", "keep", "bf16"),
    "and compiled": ("channels_last", "keep", "bf16", "compile"),
}


@dataclass
class Options:
    """Settings of `benchmarks/training_step.py`.

    Args:
        batch_size: faces per step.
        threads: CPU threads.
        turns: how often each contender runs.
        contender: run only this one, and print seconds per step.
    """

    batch_size: int = 8
    threads: int = torch.get_num_threads()
    turns: int = 3
    contender: Literal[*CONTENDERS] | None = None


def seconds_per_step(measures: tuple[str, ...], batch_size: int) -> float:
    """The fastest of five steps, after three to warm up."""
    torch.manual_seed(0)
    if "keep" in measures:
        keep_freed_memory()
    model = FaceEnhancer().train()
    faces = torch.rand(batch_size, 3, model.config.sample_size, model.config.sample_size) * 2 - 1
    if "channels_last" in measures:
        model, faces = (x.to(memory_format=torch.channels_last) for x in (model, faces))
    if "compile" in measures:
        model.compile()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in measures):
            enhanced = model(faces, return_dict=False)[0]
        (enhanced - faces).abs().mean().backward()
        model.zero_grad()

    return min([seconds(step) for _ in range(8)][3:])


def in_a_process(contender: str, options: Options) -> float:
    """Seconds per step of a contender."""
    command = [sys.executable, __file__, "--contender", contender]
    command += ["--batch_size", str(options.batch_size), "--threads", str(options.threads)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments)
    if options.contender:
        torch.set_num_threads(options.threads)
        print(seconds_per_step(CONTENDERS[options.contender], options.batch_size))
        return
    times = by_turns({name: partial(in_a_process, name, options) for name in CONTENDERS}, options.turns)
    best = {name: min(values) for name, values in times.items()}
    first, *_ = best.values()
    rows = []
    for name, value in best.items():
        per_face = value / options.batch_size
        rows.append([name, f"{1 / per_face:.1f}", f"{per_face:.3f}", f"{value / first:.0%}"])
    print(markdown_table(["", "faces per second", "s per face", "of the first's time"], rows))


if __name__ == "__main__":
    run_script(main)
