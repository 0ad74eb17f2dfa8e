"""What starting costs: one small picture, beside importing `DiffusionPipeline` and the work alone, and mistakes.

Each contender runs in a process of its own. The fastest of the turns, as a Markdown table; the last column is what
remains without the work, in units of the bare import.

    python benchmarks/startup.py --turns 5
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from timing import by_turns, seconds

from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.tables import markdown_table

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "space" / "examples" / "small_portrait.jpg"
COMMAND = ["-m", "hf_faceenh"]
IMPORT, SMALL = "importing DiffusionPipeline", "a small picture"
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


@dataclass
class Options:
    """Settings of `benchmarks/startup.py`.

    Args:
        turns: how often each contender runs.
    """

    turns: int = 5


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments)
    work = []  # s, from the decision to enhance the small picture until it is written

    def run(name: str, folder: str) -> None:
        command = [sys.executable, *CONTENDERS[name]]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if name == SMALL:
            work.append(json.loads(done.stdout)["seconds"])

    with tempfile.TemporaryDirectory() as folder:
        contenders = {name: partial(seconds, partial(run, name, folder)) for name in CONTENDERS}
        best = {name: min(times) for name, times in by_turns(contenders, options.turns).items()}
    rows = [[name, f"{time:.2f}", ""] for name, time in best.items()]
    rows[1][2] = f"{(best[SMALL] - min(work)) / best[IMPORT]:.2f}"
    rows.insert(2, ["… its work alone", f"{min(work):.2f}", ""])
    print(markdown_table(["", "s", "of the import"], rows))


if __name__ == "__main__":
    run_script(main)
