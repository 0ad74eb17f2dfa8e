"""What a run records of each round: a line of rounds.jsonl, a sheet of samples, and a line on the screen."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from PIL import Image

from hf_faceenh.files import strict_json, written_whole
from hf_faceenh.learning.checkpoints import spared
from hf_faceenh.learning.curriculum import Decision
from hf_faceenh.learning.reduction import Reduction

SAMPLE_ROWS = 8  # of a round's sheet


class Records:
    """The records of a run, in its folder.

    A round's line is first added to `pending`, then saved with the checkpoint, then written to the file. So a run that
    goes on from that checkpoint finds the line in one of the two, whatever happened in between.

    Args:
        folder: of the run; gets rounds.jsonl and samples/.
    """

    def __init__(self, folder: Path):
        self.lines, self.samples = folder / "rounds.jsonl", folder / "samples"
        self.pending: list[dict] = []  # not in the file yet

    def add(self, line: dict) -> None:
        """Adds a round's line to what is pending. What JSON does not know (NaN, infinity) becomes null."""
        self.pending.append(json.loads(strict_json(line)))

    def write(self) -> None:
        """Writes what is pending.

        Raises:
            OSError: where the disk is full; the lines stay pending, and the file as it was.
        """
        self._write(self._read() + self.pending)
        self.pending = []

    def save(self, round: int, columns: Sequence[Sequence[np.ndarray]], say: Callable[[str], None]) -> None:
        """Writes what is pending, and a round's samples. A full disk costs the samples, and delays the line."""
        with spared(f"The line of round {round}", say, "It will be written with the next; make room on the disk."):
            self.write()
        with spared(f"The samples of round {round}", say):
            self.save_sheet(round, [column[:SAMPLE_ROWS] for column in columns])

    def restore(self, rounds: int, pending: Sequence[dict]) -> None:
        """Makes the file that of a run that has done `rounds` rounds, and goes on from there.

        Args:
            rounds: lines of later rounds, which will be done again, are taken out.
            pending: as in the checkpoint; those that the file lacks are added.
        """
        found = {line["round"]: line for line in [*pending, *self._read()] if line["round"] < rounds}
        self.pending = []
        if found or self.lines.exists():
            self._write([found[number] for number in sorted(found)])

    def save_sheet(self, round: int, columns: Sequence[Sequence[np.ndarray]]) -> None:
        """A picture of a round's samples.

        Args:
            round: its number.
            columns: from left to right; `[S, S, 3]` uint8 pictures, as many in each, from top to bottom.

        Raises:
            OSError: where the disk is full; there is no picture then.
        """
        self.samples.mkdir(exist_ok=True)
        sheet = np.concatenate([np.concatenate(column) for column in columns], axis=1)
        with written_whole(self.samples / f"round_{round:04d}.png") as path:
            Image.fromarray(sheet).save(path, format="PNG")

    def _read(self) -> list[dict]:
        """The file's rounds, without a last line that a stop cut short."""
        text = self.lines.read_text(encoding="utf-8") if self.lines.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in whole.splitlines()]

    def _write(self, lines: Sequence[dict]) -> None:
        with written_whole(self.lines) as path:
            path.write_text("".join(map(strict_json, lines)), encoding="utf-8")


def described_decision(decision: Decision | None) -> dict:
    """What a round's line says about the coefficients of the next."""
    if decision is None:
        return {"factor": None, "smoothed_factor": None, "direction": 0, "changed": []}
    return {
        "factor": decision.factor,
        "smoothed_factor": decision.smoothed,
        "direction": decision.direction,
        "changed": list(decision.changed),
        "reason": decision.reason,
    }


def described_reduction(reduction: Reduction | None) -> dict | None:
    """What a round's line says about its reduction: all but the network itself."""
    if reduction is None:
        return None
    record = asdict(replace(reduction, model=None, keep=None))
    del record["model"], record["keep"]
    return record


def summary(line: dict) -> str:
    """A round in one line for the screen."""
    parts = [f"round {line['round']} ({line['phase']})"]
    if line["factor"] is not None:
        change = {1: "raised", -1: "lowered", 0: "kept"}[line["direction"]]
        named = f" ({', '.join(line['changed'])})" if line["changed"] else ""
        parts.append(f"factor {line['smoothed_factor']:.2f}: coefficients {change}{named}")
    if line["reduction"]:
        kept = sum(layer["kept"] > 0 for layer in line["reduction"]["layers"])
        parts.append(f"{kept} of {len(line['reduction']['layers'])} layers reduced")
    parts.append(f"{line['macs'] / 1e9:.3f} GMAC")
    parts += [f"{name} {value:.4f}" for name, value in line["losses"].items()]
    if line["validation"]:
        parts.append(f"PSNR {line['validation']['psnr']:.2f} dB (input {line['validation']['input_psnr']:.2f})")
    return ", ".join(parts)
