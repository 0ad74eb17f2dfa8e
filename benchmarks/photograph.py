"""Time per photograph and per face, networks and everything else apart, and peak memory.

    python benchmarks/photograph.py [--model FOLDER_OR_HUB_NAME] [--threads 2] [--repeats 3]

The photograph has 2 megapixels and five faces of 100 to 250 px (crops of the example photograph). Prints Markdown. Of
the times only the ratios carry over to another machine.
"""

import resource
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from timing import seconds

from hf_faceenh import FaceEnhancePipeline
from hf_faceenh.allocator import keep_freed_memory
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.tables import markdown_table
from hf_faceenh.models.costs import multiply_accumulates_within

EXAMPLE = Path(__file__).parents[1] / "examples" / "astronaut.png"
NETWORKS = ("detector", "enhancer", "parser", "super_resolver", "recognizer")


def photograph() -> Image.Image:
    """1600×1250 px, five faces."""
    canvas = Image.new("RGB", (1600, 1250), "dimgrey")
    head = Image.open(EXAMPLE).convert("RGB").crop((112, 0, 337, 225))
    for x, y, side in ((40, 60, 340), (560, 40, 280), (1100, 120, 300), (200, 640, 240), (900, 700, 200)):
        canvas.paste(head.resize((side, side), Image.Resampling.LANCZOS), (x, y))
    return canvas


def timed(pipe: FaceEnhancePipeline) -> dict[str, list[float]]:
    """The seconds of every call of each network, by its name; calls from now on are added."""
    times = defaultdict(list)
    for name in NETWORKS:
        network, started = getattr(pipe, name), []
        if network is None:
            continue
        network.register_forward_pre_hook(lambda *_, started=started: started.append(time.perf_counter()))
        network.register_forward_hook(
            lambda *_, name=name, started=started: times[name].append(time.perf_counter() - started.pop())
        )
    return times


@dataclass
class Options:
    """Settings of `benchmarks/photograph.py`.

    Args:
        model: pipeline (folder or Hub name) instead of the bundled one.
        threads: CPU threads.
        repeats: timed runs, after one to warm up.
    """

    model: str | None = None
    threads: int = 2
    repeats: int = 3


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments)
    keep_freed_memory()  # as our commands do
    torch.set_num_threads(options.threads)
    pipe = FaceEnhancePipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    picture = photograph()
    with multiply_accumulates_within() as macs:
        faces = pipe(picture).faces[0]  # also warms up
    enhanced = sum(face.left_alone is None for face in faces)
    of_networks, runs = timed(pipe), []
    for _ in range(options.repeats):
        of_networks.clear()
        whole = seconds(lambda: pipe(picture))
        runs.append({name: sum(of_networks[name]) for name in NETWORKS} | {"whole": whole})
    shares = {name: median(run[name] / run["whole"] for run in runs) for name in NETWORKS}
    whole = median(run["whole"] for run in runs)
    giga = macs() / 1e9
    print(f"{len(faces)} faces found, {enhanced} enhanced; {giga:.0f} GMAC; median of {options.repeats}\n")
    parts = shares | {"everything else": 1 - sum(shares.values())}
    rows = [[name, f"{whole * share:.3f}", f"{share:.1%}"] for name, share in parts.items()]
    print(markdown_table(["part", "seconds", "share"], [*rows, ["the photograph", f"{whole:.3f}", ""]]))
    per_face = whole * (shares["enhancer"] + shares["parser"]) / max(enhanced, 1)
    print(f"\nPer face (enhancer and parser): {per_face:.3f} s. ", end="")
    print(f"Peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB.")


if __name__ == "__main__":
    run_script(main)
