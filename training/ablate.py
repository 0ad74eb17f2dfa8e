"""Trains the variants of the method that RESULTS.md compares, and measures those of a table side by side.

    python training/ablate.py --dataset FACES --hq OTHERS --lq MILD SEVERE --recognizer NETWORK --output_dir OUT

The tables and their rows are those of configs/ablations.yaml. A row that is there is not trained again, and one that
was stopped goes on, so the same command can be given again after any stop. In OUT: a folder for each row, as train.py
writes it; for each table a folder as evaluate.py writes it; and tables.md, with differences to the table's first row.
"""

import json
import math
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from hf_faceenh.learning.intervals import mean_with_interval
from hf_faceenh.learning.scripts import as_list, parse_options, run_script
from hf_faceenh.learning.tables import INPUT, METRICS, markdown_table

HERE = Path(__file__).parent
DONE = "done"  # file that says that a row's training came to its end


@dataclass
class Options:
    """Settings of `training/ablate.py`.

    Args:
        dataset: sharp faces to train on, as for train.py: one dataset or several.
        hq: folder of other sharp faces, as for evaluate.py.
        lq: folders of the same faces, degraded.
        recognizer: face recognizer (folder or Hub name).
        output_dir: gets the rows' runs, the tables and tables.md.
        backbone: transformers vision model (folder or Hub name) for rows with a perceptual loss or a projected
            discriminator, and for the distance of features; the table "discriminator" needs it.
        variants: YAML file with the tables and their rows; the configs that they name lie beside it.
        only: these tables instead of all.
    """

    dataset: list[str] | str
    hq: Path
    lq: list[Path]
    recognizer: str
    output_dir: Path
    backbone: str | None = None
    variants: Path = HERE / "configs/ablations.yaml"
    only: list[str] = field(default_factory=list)


class Ablation:
    """All rows by name, and how each is trained."""

    def __init__(self, options: Options):
        self.options = options
        self.tables = yaml.safe_load(options.variants.read_text())
        self.rows = {name: row for table in self.tables.values() for name, row in table.items()}
        if unknown := set(options.only) - self.tables.keys():
            raise ValueError(f"--only {min(unknown)}: the tables are {', '.join(self.tables)}.")

    def folder(self, row: str) -> Path:
        return self.options.output_dir / "".join(letter if letter.isalnum() else "_" for letter in row)

    def train(self, row: str) -> None:
        """Trains a row, after those that it needs."""
        folder = self.folder(row)
        if (folder / DONE).exists():
            return
        settings = {name: self._resolved(value) for name, value in self.rows[row].items()}
        config = self.options.variants.parent / settings.pop("config")
        arguments = [f"--{name}={as_yaml(value)}" for name, value in settings.items() if value is not None]
        self._run(
            "train.py",
            *(
                "--config",
                config,
                "--dataset",
                *as_list(self.options.dataset),
                "--recognizer",
                self.options.recognizer,
            ),
            *("--output_dir", folder, "--resume", "latest", *self._backbone("--perceptual_backbone"), *arguments),
        )
        (folder / DONE).touch()

    def _resolved(self, value):
        """What "@ROW", "@ROW.config" or "@ROW.coefficients" stands for."""
        if not isinstance(value, str) or not value.startswith("@"):
            return value
        row, _, what = value[1:].partition(".")
        self.train(row)
        network = self.folder(row) / "enhancer"
        if not what:
            return str(network)
        if what == "coefficients":
            return json.loads((self.folder(row) / "rounds.jsonl").read_text().splitlines()[-1])["coefficients"]
        arguments = json.loads((network / "config.json").read_text())
        return {name: argument for name, argument in arguments.items() if not name.startswith("_") and argument}

    def measure(self, table: str) -> str:
        """The table, as Markdown."""
        rows, out = list(self.tables[table]), self.options.output_dir / f"table_{table}"
        models = {str(self.folder(row) / "enhancer"): row for row in rows}
        self._run(
            "evaluate.py",
            *("--hq", self.options.hq, "--lq", *self.options.lq, "--model", *models),
            *("--recognizer", self.options.recognizer, "--output_dir", out, *self._backbone("--backbone")),
        )
        results = json.loads((out / "results.json").read_text())
        return f"## {table}\n\n{compared(results, models)}\n"

    def _backbone(self, option: str) -> tuple[str, ...]:
        return () if self.options.backbone is None else (option, self.options.backbone)

    def _run(self, script: str, *arguments) -> None:
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        if subprocess.run(command).returncode:
            raise ValueError(f"{script} failed; its message stands above. The command was: {' '.join(command)}")


def as_yaml(value) -> str:
    """A setting's value for the command line."""
    if isinstance(value, str):
        return value
    return ".inf" if value == math.inf else json.dumps(value)


def difference(metric: str, by_face: dict, reference: dict) -> str:
    """How far a network's `metric` is above the reference network's, face by face: mean and interval."""
    pairs = [(ours[metric], theirs[metric]) for ours, theirs in zip(by_face.values(), reference.values(), strict=True)]
    values = [np.nan if None in pair else pair[0] - pair[1] for pair in pairs]
    return METRICS[metric].cell(mean_with_interval(values), "+")


def compared(results: dict, names: dict[str, str]) -> str:
    """The table of one evaluation, as Markdown.

    Args:
        results: evaluate.py's results.json.
        names: model → what it is called in the table; the others are compared with the first, face by face.
    """
    by_face = {(row["level"], row["model"]): row["by_face"] for row in results["rows"] if "by_face" in row}
    metrics = [name for name in METRICS if name in results["rows"][0]["metrics"]]
    reference, lines = next(iter(names)), []
    for row in results["rows"]:
        model, level = row["model"], row["level"]
        if (level, model) not in by_face:
            continue
        size = "" if model == INPUT else f"{results['models'][model]['macs'] / 1e6:.0f}"
        cells = [METRICS[name].cell({"mean": row["metrics"][name]["mean"]}) for name in metrics]
        if model not in (INPUT, reference):
            for index, name in enumerate(metrics):
                cells[index] += f" ({difference(name, by_face[level, model], by_face[level, reference])})"
        lines.append([level, names.get(model, model), size, *cells])
    return markdown_table(["faces", "network", "million MAC", *(METRICS[name].title for name in metrics)], lines)


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments, several=("lq", "only"))
    ablation = Ablation(options)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    texts = []
    for table in options.only or ablation.tables:
        for row in ablation.tables[table]:
            ablation.train(row)
        texts.append(ablation.measure(table))
        (options.output_dir / "tables.md").write_text("\n".join(texts))
    print("\n".join(texts))


if __name__ == "__main__":
    run_script(main)
