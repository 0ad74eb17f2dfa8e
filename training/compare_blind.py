"""Shows faces enhanced by two models without saying which is which, and counts what was chosen.

    python training/compare_blind.py --lq MILD MEDIUM SEVERE --model ONE OTHER --output_dir OUT
    python training/compare_blind.py --lq MILD MEDIUM SEVERE --model ONE OTHER --output_dir OUT --choices "AB=BA…"

The first writes pages with a face in each row, degraded | A | B. The seed draws the faces, and which model is A.
Whoever looks at them notes the better one of each row, from the first page to the last: A, B, or = for neither. The
second says whose they were.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hf_faceenh.learning.degradation import resize
from hf_faceenh.learning.evaluation import enhance, levels_of, read_square
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.sheets import contact_sheet
from hf_faceenh.models import load_enhancer

NEITHER = "neither"


@dataclass
class Options:
    """Settings of `training/compare_blind.py`.

    Args:
        lq: folders of degraded faces, e.g. one for each level.
        model: the two enhancers or pipelines: folders or Hub names.
        output_dir: gets the pages: page_01.png and so on.
        faces: how many, of each level as many, and each person once.
        rows: faces on a page.
        size: of a face in px.
        seed: of the order of faces, and of A and B.
        choices: a letter for each face: A, B, or =; spaces do not count.
    """

    lq: list[Path]
    model: list[str]
    output_dir: Path
    faces: int = 60
    rows: int = 5
    size: int = 384
    seed: int = 0
    choices: str | None = None

    def __post_init__(self):
        for name in ("faces", "rows", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1; got {getattr(self, name)}.")
        if len(self.model) != 2:
            raise ValueError(f"--model takes the two models to compare; got {len(self.model)}.")


@dataclass(frozen=True)
class Row:
    """A degraded face, and whether A is the second model."""

    path: Path
    swapped: bool

    @property
    def level(self) -> str:
        return self.path.parent.name

    def chosen(self, choice: str, models: list[str]) -> str:
        """Whose the choice A, B or = is."""
        return NEITHER if choice == "=" else models[(choice == "B") != self.swapped]


def drawn(options: Options) -> list[Row]:
    """The rows of all pages: a face of each level in turn, every face once, and each model as often A as B.

    Raises:
        ValueError: where there are too few faces.
    """
    levels, rng = levels_of(options.lq), np.random.default_rng(options.seed)
    names = rng.permutation(sorted({path.name for paths in levels.values() for path in paths}))[: options.faces]
    if len(names) < options.faces:
        raise ValueError(f"--faces {options.faces}: there are only {len(names)} faces.")
    folders = [paths[0].parent for paths in levels.values()]
    swapped = (rng.permutation(options.faces) % 2 == 1).tolist()
    return [Row(folders[place % len(folders)] / name, swapped[place]) for place, name in enumerate(names)]


def draw_pages(options: Options, rows: list[Row]) -> None:
    options.output_dir.mkdir(parents=True, exist_ok=True)
    models = [load_enhancer(name, torch_dtype=torch.float32).eval() for name in options.model]
    for number, start in enumerate(range(0, len(rows), options.rows), 1):
        part = rows[start : start + options.rows]
        lq = [read_square(row.path) for row in part]
        results = [enhance(model, lq, options.size)[0] for model in models]
        pairs = [pair[::-1] if row.swapped else pair for row, *pair in zip(part, *results, strict=True)]
        degraded = [resize(face, (options.size,) * 2) for face in lq]
        columns = ("degraded", degraded), ("A", [pair[0] for pair in pairs]), ("B", [pair[1] for pair in pairs])
        Image.fromarray(contact_sheet(columns)).save(options.output_dir / f"page_{number:02}.png")


def count(options: Options, rows: list[Row]) -> str:
    """What was chosen, as a Markdown table, by level and in all.

    Raises:
        ValueError: for choices that do not fit the rows.
    """
    choices = "".join(options.choices.split()).upper()
    if len(choices) != len(rows) or set(choices) - set("AB="):
        raise ValueError(f"--choices must be {len(rows)} letters, each A, B or =; got {len(choices)}: {choices}")
    first, other = options.model
    chosen = [row.chosen(choice, options.model) for row, choice in zip(rows, choices, strict=True)]
    lines = [f"| level | {first} | {other} | {NEITHER} |", "| --- | --- | --- | --- |"]
    for level in (*dict.fromkeys(row.level for row in rows), "all"):
        own = [name for name, row in zip(chosen, rows, strict=True) if level in (row.level, "all")]
        lines.append(f"| {level} | " + " | ".join(str(own.count(name)) for name in (first, other, NEITHER)) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__.splitlines()[0], arguments, several=("lq", "model"))
    rows = drawn(options)
    if options.choices is None:
        draw_pages(options, rows)
    else:
        print(count(options, rows))


if __name__ == "__main__":
    run_script(main)
