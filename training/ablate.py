"""Trains the variants of the method that RESULTS.md compares, and measures those of a table side by side.

    python training/ablate.py --dataset FACES --hq OTHERS --lq MILD SEVERE --recognizer NETWORK --output_dir OUT

The tables and their rows are those of configs/ablations.yaml. A row that is there is not trained again, and one that
was stopped goes on, so that the command can be given again after any stop. In OUT: a folder for each row, as of
train.py; for each table a folder as of evaluate.py; and tables.md, with the difference to the table's first row.
"""

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from hf_faceenh.learning.metrics import INPUT, METRICS, markdown_table, mean_with_interval

HERE = Path(__file__).parent
DONE = "done"  # file that says that a row's training came to its end


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="sharp faces to train on, as of train.py")
    parser.add_argument("--hq", type=Path, required=True, help="folder of other sharp faces, as of evaluate.py")
    parser.add_argument("--lq", type=Path, nargs="+", required=True, help="folders of their poor twins")
    parser.add_argument("--recognizer", required=True, help="face recognizer: folder or Hub name")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument(
        "--variants", type=Path, default=HERE / "configs/ablations.yaml", help="tables and rows, beside their configs"
    )
    parser.add_argument("--only", nargs="+", metavar="TABLE", help="these tables instead of all")
    return parser.parse_args(arguments)


class Ablation:
    """All rows by name, and how each is trained."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.tables = yaml.safe_load(args.variants.read_text())
        self.rows = {name: row for table in self.tables.values() for name, row in table.items()}
        if unknown := set(args.only or ()) - self.tables.keys():
            raise ValueError(f"--only {min(unknown)}: the tables are {', '.join(self.tables)}.")

    def folder(self, row: str) -> Path:
        return self.args.output_dir / "".join(letter if letter.isalnum() else "_" for letter in row)

    def train(self, row: str) -> None:
        """Trains a row, after those that it needs."""
        folder = self.folder(row)
        if (folder / DONE).exists():
            return
        settings = {name: self._resolved(value) for name, value in self.rows[row].items()}
        config = self.args.variants.parent / settings.pop("config")
        options = [f"--{name}={as_yaml(value)}" for name, value in settings.items() if value is not None]
        if any((folder / "checkpoints").glob("*")):
            options += ["--resume", "latest"]
        self._run(
            "train.py",
            *("--config", config, "--dataset", self.args.dataset, "--recognizer", self.args.recognizer),
            *("--output_dir", folder, *options),
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
        rows, out = list(self.tables[table]), self.args.output_dir / f"table_{table}"
        models = {str(self.folder(row) / "enhancer"): row for row in rows}
        self._run(
            "evaluate.py",
            *("--hq", self.args.hq, "--lq", *self.args.lq, "--model", *models),
            *("--recognizer", self.args.recognizer, "--output_dir", out),
        )
        results = json.loads((out / "results.json").read_text())
        return f"## {table}\n\n{compared(results, models)}\n"

    def _run(self, script: str, *arguments) -> None:
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        if subprocess.run(command).returncode:
            raise ValueError(f"{script} failed; its message stands above. The command was: {' '.join(command)}")


def as_yaml(value) -> str:
    """A setting's value for the command line."""
    if isinstance(value, str):
        return value
    return ".inf" if value == math.inf else json.dumps(value)


def compared(results: dict, names: dict[str, str]) -> str:
    """
    Args:
        results: evaluate.py's results.json.
        names: model → what it is called in the table; the first is what the others are compared with, face by face.
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
                pairs = zip(by_face[level, model].values(), by_face[level, reference].values(), strict=True)
                pairs = [(ours[name], theirs[name]) for ours, theirs in pairs]
                difference = [np.nan if None in pair else pair[0] - pair[1] for pair in pairs]
                cells[index] += f" ({METRICS[name].cell(mean_with_interval(difference), '+')})"
        lines.append([level, names.get(model, model), size, *cells])
    return markdown_table(["faces", "network", "million MAC", *(METRICS[name].title for name in metrics)], lines)


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    ablation = Ablation(args)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    texts = []
    for table in args.only or ablation.tables:
        for row in ablation.tables[table]:
            ablation.train(row)
        texts.append(ablation.measure(table))
        (args.output_dir / "tables.md").write_text("\n".join(texts))
    print("\n".join(texts))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"ablate.py: {' '.join(str(error).split())}")
