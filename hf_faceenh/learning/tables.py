"""How the figures of an evaluation are written: headings, cells, tables, and the entries of a model card."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from huggingface_hub import EvalResult

INPUT = "input"  # the name of the upscaled degraded faces among the models that are measured


@dataclass(frozen=True)
class Metric:
    """How one of `METRICS` is written.

    Args:
        heading: what it is, with its unit.
        digits: after the point.
        higher_is_better: which way is up.
    """

    heading: str
    digits: int
    higher_is_better: bool = False

    @property
    def title(self) -> str:
        """The heading, and which way is up."""
        return f"{self.heading} {'↑' if self.higher_is_better else '↓'}"

    def cell(self, figures: Mapping, sign: str = "") -> str:
        """A table's cell of what `mean_with_interval` gives, or of a mean alone; `sign` is "+" for differences."""
        if figures["mean"] is None:
            return "none found"
        text = f"{figures['mean']:{sign}.{self.digits}f}"
        if figures.get("interval"):
            low, high = (f"{value:{sign}.{self.digits}f}" for value in figures["interval"])
            text += f" [{low}, {high}]"
        return f"{text}, {figures['missing']} not found" if figures.get("missing") else text


METRICS = {
    "psnr": Metric("PSNR in dB", 2, higher_is_better=True),
    "ssim": Metric("SSIM", 3, higher_is_better=True),
    "noise": Metric("noise in flat places, of 255", 2),
    "identity": Metric("identity distance", 3),
    "landmarks": Metric("landmark error in eye distances", 3),
    "perceptual": Metric("feature distance (not LPIPS)", 3),
}


def markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


GAINS = ["model", "group", "faces", "level", "PSNR over the input in dB ↑", "of them worse", "identity distance ↓"]


def gains_table(rows: Sequence[Mapping]) -> str:
    """The Markdown table of `evaluation.groups.gains`; without the model's name where there is only one."""
    lines = []
    for row in rows:
        psnr, identity = METRICS["psnr"].cell(row["psnr"], "+"), row.get("identity")
        factor = "" if identity is None else f"× {identity:.2f}"
        lines.append([row["model"], row["group"], str(row["faces"]), row["level"], psnr, str(row["worse"]), factor])
    first = 0 if len({row["model"] for row in rows}) > 1 else 1
    return markdown_table(GAINS[first:], [line[first:] for line in lines])


def model_index_results(rows: Iterable[Mapping]) -> list[EvalResult]:
    """Figures for a model card's metadata (`huggingface_hub.ModelCardData(eval_results=…)`).

    Args:
        rows: those of evaluate.py's results.json: "model", "level" (the name of the degraded faces), "pictures" and
            "metrics" (metric → {"mean": …}). The rows of the model "input", and what has no mean, are left out.
    """
    return [
        EvalResult(
            task_type="image-to-image",
            task_name="Face enhancement",
            dataset_type="imagefolder",
            dataset_name=f"poor faces, {row['level']}",
            dataset_config=row["level"],  # an entry is known by type and configuration, not by its name
            metric_type=name,
            metric_name=METRICS[name].heading,
            metric_value=round(figures["mean"], METRICS[name].digits + 1),
            metric_args={"pictures": row["pictures"]},
        )
        for row in rows
        if row["model"] != INPUT
        for name, figures in row["metrics"].items()
        if figures["mean"] is not None
    ]
