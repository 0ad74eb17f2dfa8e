"""What starting costs: one small picture, beside importing `DiffusionPipeline` and the work alone, and mistakes.

Each contender runs in a process of its own; they take turns, so that whatever else the machine does falls on all. The
fastest of the turns, as a Markdown table. The last column is what remains without the work, in units of the bare
import.

    python benchmarks/startup.py --turns 5
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "space" / "examples" / "small_portrait.jpg"
COMMAND = ["-m", "hf_faceenh"]
IMPORT = "importing DiffusionPipeline"
SMALL = "a small picture"
WORK = "its work alone"
CONTENDERS = {  # name → arguments of Python
    IMPORT: ["-c", "from diffusers import DiffusionPipeline"],
    SMALL: [*COMMAND, "enhance", str(PICTURE), "-o", "new.jpg", "--overwrite", "--json"],
    "a missing picture": [*COMMAND, "enhance", "gone.jpg", "-o", "new.jpg"],
    "an output that exists": [*COMMAND, "enhance", str(PICTURE), "-o", str(PICTURE.parent)],
    "an unknown option": [*COMMAND, "enhance", "a.jpg", "-o", "b.jpg", "--nonsense"],
    "an unknown model": [*COMMAND, "enhance", str(PICTURE), "-o", "b.jpg", "--model", "./gone"],
    "a format that is only read": [*COMMAND, "enhance", str(PICTURE), "-o", "b.psd"],
    "a missing checkpoint": [*COMMAND, "convert", "gone.pth", "new"],
    "Python itself": ["-c", "pass"],
}


def timed(arguments: list[str], folder: str) -> tuple[float, str]:
    """Seconds that a process takes, and what it prints."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)
    return time.perf_counter() - start, done.stdout


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="how often each contender runs")
    options = parser.parse_args(arguments)
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.turns):
            for name, command in CONTENDERS.items():
                seconds, printed = timed(command, folder)
                times.setdefault(name, []).append(seconds)
                if name == SMALL:  # from the decision to enhance it until it is written
                    times.setdefault(WORK, []).append(json.loads(printed)["seconds"])
    best = {name: min(values) for name, values in times.items()}
    print("| | s | of the import |\n| --- | --- | --- |")
    for name, seconds in best.items():
        share = f"{(seconds - best[WORK]) / best[IMPORT]:.2f}" if name == SMALL else ""
        print(f"| {name} | {seconds:.2f} | {share} |")


if __name__ == "__main__":
    main()
