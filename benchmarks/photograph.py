"""Time per photograph and per face, networks and everything else apart, and peak memory.

    python benchmarks/photograph.py [--model FOLDER_OR_HUB_NAME] [--threads 2] [--repeats 3]

The photograph has 2 megapixels and five faces of 100 to 250 px (crops of the example photograph). Prints Markdown. Of
the absolute times only the ratios carry over to another machine.
"""

import argparse
import resource
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from hf_faceenh import FaceEnhancePipeline

EXAMPLE = Path(__file__).parents[1] / "examples" / "astronaut.png"
NETWORKS = ("detector", "enhancer", "parser", "super_resolver")


def photograph() -> Image.Image:
    """1600×1250 px, five faces."""
    canvas = Image.new("RGB", (1600, 1250), "dimgrey")
    head = Image.open(EXAMPLE).convert("RGB").crop((112, 0, 337, 225))
    for x, y, side in ((40, 60, 340), (560, 40, 280), (1100, 120, 300), (200, 640, 240), (900, 700, 200)):
        canvas.paste(head.resize((side, side), Image.Resampling.LANCZOS), (x, y))
    return canvas


def timed(pipe: FaceEnhancePipeline) -> dict[str, list[float]]:
    """Adds up what each network's forward takes; returns the seconds of every call, by network."""
    seconds = defaultdict(list)
    for name in NETWORKS:
        network = getattr(pipe, name)
        started = []
        network.register_forward_pre_hook(lambda *_, started=started: started.append(time.perf_counter()))
        network.register_forward_hook(
            lambda *_, name=name, started=started: seconds[name].append(time.perf_counter() - started.pop())
        )
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pipe = FaceEnhancePipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    picture = photograph()
    with FlopCounterMode(display=False) as counter:
        faces = pipe(picture).faces[0]  # also warms up
    enhanced = sum(face.left_alone is None for face in faces)
    gmac = sum(counter.get_flop_counts()["Global"].values()) / 2e9
    seconds, runs = timed(pipe), []
    for _ in range(args.repeats):
        seconds.clear()
        started = time.perf_counter()
        pipe(picture)
        whole = time.perf_counter() - started
        runs.append({name: sum(seconds[name]) for name in NETWORKS} | {"whole": whole})
    shares = {name: median(run[name] / run["whole"] for run in runs) for name in NETWORKS}
    whole = median(run["whole"] for run in runs)
    print(f"{len(faces)} faces found, {enhanced} enhanced; {gmac:.0f} GMAC; median of {args.repeats}\n")
    print("| part | seconds | share |\n| --- | --- | --- |")
    for name, share in shares.items():
        print(f"| {name} | {whole * share:.3f} | {share:.1%} |")
    print(f"| everything else | {whole * (1 - sum(shares.values())):.3f} | {1 - sum(shares.values()):.1%} |")
    print(f"| the photograph | {whole:.3f} | |")
    per_face = whole * (shares["enhancer"] + shares["parser"]) / max(enhanced, 1)
    print(f"\nPer face (enhancer and parser): {per_face:.3f} s. ", end="")
    print(f"Peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB.")


if __name__ == "__main__":
    main()
