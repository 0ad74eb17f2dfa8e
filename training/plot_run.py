"""Draws a run of train.py, finished or not, from OUT/rounds.jsonl.

    python training/plot_run.py OUT [--output FILE]

Factor and coefficients of every round, quality against multiply-accumulates, and the losses. The picture is
OUT/run.png, or the FILE that `--output` names, whose suffix decides its format: png, pdf, svg.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hf_faceenh.learning.scripts import parse_options, run_script

NEEDED = ("round", "factor", "smoothed_factor", "direction", "coefficients", "losses", "macs", "phase")


@dataclass
class Options:
    """Settings of `training/plot_run.py`.

    Args:
        run: the --output_dir of train.py.
        output: picture to write instead of run.png in that folder.
    """

    run: Path
    output: Path | None = None


def read_rounds(path: Path) -> list[dict]:
    """The rounds of a run. A last line that a stop in the middle of writing has cut off is left out.

    Raises:
        ValueError: where there are none, or another line is not a round.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; expected the --output_dir of a run of train.py, after its first round.")
    rounds, lines = [], path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise ValueError(f"{path}, line {number} is not JSON: {error}.") from error
        if lacking := [name for name in NEEDED if not isinstance(row, dict) or name not in row]:
            raise ValueError(f"{path}, line {number} is not a round of train.py: it lacks {', '.join(lacking)}.")
        rounds.append(row)
    if not rounds:
        raise ValueError(f"{path} holds no whole round yet.")
    return rounds


def series(rounds: list[dict], value: Callable[[dict], float | None]) -> tuple[list[int], list[float]]:
    """The numbers and values of those rounds that have a finite value."""
    points = [(line["round"], value(line)) for line in rounds]
    points = [(number, y) for number, y in points if y is not None and math.isfinite(y)]
    return [number for number, _ in points], [y for _, y in points]


def names_in(rounds: list[dict], field: str) -> list[str]:
    return list(dict.fromkeys(name for line in rounds for name in line[field]))


def by_round(axes: Axes, title: str) -> None:
    axes.set(title=title, xlabel="round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_factor(axes: Axes, rounds: list[dict]) -> None:
    numbers, factors = series(rounds, lambda line: line["factor"])
    by_round(axes, "augmentation factor" if numbers else "no augmentation factor: the coefficients were fixed")
    if not numbers:
        return
    axes.plot(numbers, factors, ".", color="grey", label="of the round")
    axes.plot(*series(rounds, lambda line: line["smoothed_factor"]), label="smoothed")
    for direction, marker, label in ((1, "^", "coefficients raised"), (-1, "v", "coefficients lowered")):
        changed = [line for line in rounds if line["direction"] == direction]
        axes.plot(*series(changed, lambda line: line["smoothed_factor"]), marker, color="black", label=label)
    axes.set_yscale("log")
    axes.legend()


def draw_coefficients(axes: Axes, rounds: list[dict]) -> None:
    by_round(axes, "degradation coefficients")
    for name in names_in(rounds, "coefficients"):
        axes.step(*series(rounds, lambda line, name=name: line["coefficients"].get(name)), where="mid", label=name)
    axes.set_ylim(-0.05, 1.05)
    axes.legend()


def draw_quality(axes: Axes, rounds: list[dict]) -> None:
    """PSNR of the validation faces against multiply-accumulates; without such faces, these by round."""
    validated = [line for line in rounds if line.get("validation")]
    if not validated:
        by_round(axes, "size (the run had no validation faces)")
        axes.plot(*series(rounds, lambda line: line["macs"] / 1e9), ".-")
        axes.set(ylabel="GMAC per face", ylim=(0, None))
        return
    points = [(line["macs"] / 1e9, line["validation"]["psnr"]) for line in validated]
    axes.plot(*zip(*points, strict=True), color="lightgrey", zorder=0)
    for phase, colour in (("reduce", "tab:blue"), ("tune", "tab:orange")):
        of_phase = [point for point, line in zip(points, validated, strict=True) if line["phase"] == phase]
        if of_phase:
            axes.scatter(*zip(*of_phase, strict=True), color=colour, s=16, label=f"phase: {phase}")
    for place in (0, -1):
        axes.annotate(f"round {validated[place]['round']}", points[place], fontsize=8)
    axes.axhline(validated[-1]["validation"]["input_psnr"], color="black", linestyle=":", label="input")
    axes.set(title="quality against size, after each round", xlabel="GMAC per face", ylabel="PSNR in dB")
    axes.legend()


def draw_losses(axes: Axes, rounds: list[dict]) -> None:
    by_round(axes, "losses, unweighted")
    for name in names_in(rounds, "losses"):
        axes.plot(*series(rounds, lambda line, name=name: line["losses"].get(name)), ".-", label=name)
    axes.set_yscale("symlog", linthresh=0.1)  # they differ in size, and some fall below 0
    axes.legend()


def draw(rounds: list[dict]) -> Figure:
    figure = Figure(figsize=(12, 8), layout="constrained")
    panels = (draw_factor, draw_coefficients, draw_quality, draw_losses)
    for panel, place in zip(panels, figure.subplots(2, 2).flat, strict=True):
        panel(place, rounds)
        place.grid(alpha=0.3)
    return figure


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__, arguments, positional=True)
    figure = draw(read_rounds(options.run / "rounds.jsonl"))
    output = options.output or options.run / "run.png"
    kinds = figure.canvas.get_supported_filetypes()
    if output.suffix[1:].lower() not in kinds:
        raise ValueError(f"--output {output}: expected a file that ends with one of {', '.join(sorted(kinds))}.")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120)
    print(output)


if __name__ == "__main__":
    run_script(main)
