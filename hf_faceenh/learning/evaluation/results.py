"""What an evaluation found: rows with means and intervals, as JSON and as Markdown tables."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from hf_faceenh.files import strict_json, written_whole
from hf_faceenh.learning.evaluation.faces import OVERALL
from hf_faceenh.learning.evaluation.groups import gains
from hf_faceenh.learning.evaluation.measuring import Evaluation
from hf_faceenh.learning.intervals import mean_with_interval
from hf_faceenh.learning.tables import INPUT, METRICS, gains_table, markdown_table
from hf_faceenh.models.costs import multiply_accumulates, parameter_count


def results_of(
    evaluation: Evaluation,
    levels: Mapping[str, list[Path]],
    device: torch.device,
    batch_size: int,
    sources: Mapping[str, str | None],
    groups: Mapping[str, list[str]],
) -> dict:
    """What results.json holds: how was measured, what every model costs, the rows, and the gains of groups.

    Args:
        evaluation: done.
        levels: level → its faces.
        device: that the models ran on.
        batch_size: faces that went through a model at once.
        sources: where "recognizer" and "backbone" are from, for the notes.
        groups: of people, as `read_groups` gives them.
    """
    rows = _rows(evaluation, {name: [path.name for path in paths] for name, paths in levels.items()})
    return {
        "size": evaluation.size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "batch_size": batch_size,
        "models": {
            name: {
                "parameters": parameter_count(model),
                "macs": multiply_accumulates(model, (1, 3, model.config.sample_size, model.config.sample_size)),
                "seconds_per_face": evaluation.seconds[name] / evaluation.faces,
            }
            for name, model in evaluation.models.items()
        },
        "notes": _notes(evaluation, sources),
        "rows": rows,
        "gains": gains(rows, groups),
    }


def _notes(evaluation: Evaluation, sources: Mapping[str, str | None]) -> dict[str, str]:
    """Metric → which network its figures come from."""
    notes, instruments = {}, evaluation.instruments
    if (recognizer := instruments["recognizer"]) is not None:
        notes["identity"] = f"{recognizer.config.distance}, of the embeddings of {sources['recognizer']}"
    if evaluation.sharp_errors:
        floor = METRICS["landmarks"].cell(mean_with_interval(list(evaluation.sharp_errors.values())))
        notes["landmarks"] = f"mean over the five points; of the sharp faces themselves {floor}"
    if (backbone := instruments["backbone"]) is not None:
        notes["perceptual"] = f"features of the {type(backbone).__name__} {sources['backbone']}"
    return notes


def _row(model: str, level: str, faces: list[str], values: dict, inputs: dict) -> dict:
    """
    Args:
        model: name.
        level: name.
        faces: name of the face on each picture.
        values: metric → value of each picture.
        inputs: the same of the upscaled degraded faces.
    """
    return {
        "model": model,
        "level": level,
        "pictures": len(faces),
        "metrics": {
            name: mean_with_interval(figures, faces)
            | {"difference": mean_with_interval(np.subtract(figures, inputs[name]), faces)}
            for name, figures in values.items()
        },
    }


def _rows(evaluation: Evaluation, faces: dict[str, list[str]]) -> list[dict]:
    """A row per level and model; then, where there are several levels, a row per model of all of them.

    Args:
        evaluation: done.
        faces: level → names of its faces.
    """
    rows, everything = [], sum(faces.values(), [])
    models = (INPUT, *evaluation.models, *evaluation.made)
    for level, names in faces.items():
        for model in models:
            values = evaluation.values[level, model]
            rows.append(_row(model, level, names, values, evaluation.values[level, INPUT]))
            rows[-1]["by_face"] = {
                name: {metric: figures[i] for metric, figures in values.items()} for i, name in enumerate(names)
            }
    if len(faces) > 1:
        pooled = {
            model: {
                metric: sum((evaluation.values[level, model][metric] for level in faces), [])
                for metric in rows[0]["metrics"]
            }
            for model in models
        }
        rows += [_row(model, OVERALL, everything, values, pooled[INPUT]) for model, values in pooled.items()]
    return rows


def markdown(results: dict) -> str:
    """The models, what was measured, and the differences to the input."""
    rows, names = results["rows"], list(results["rows"][0]["metrics"])
    heads = [METRICS[name].title for name in names]
    models = [
        (name, f"{model['parameters'] / 1e6:.2f} M", f"{model['macs'] / 1e9:.2f}", f"{model['seconds_per_face']:.3f}")
        for name, model in results["models"].items()
    ]
    means, differences = [], []
    for row in rows:
        metrics = [(METRICS[name], row["metrics"][name]) for name in names]
        means.append([row["model"], row["level"], *(metric.cell(figures) for metric, figures in metrics)])
        if row["model"] != INPUT:
            cells = (metric.cell(figures["difference"], "+") for metric, figures in metrics)
            differences.append([row["model"], row["level"], *cells])
    parts = [
        markdown_table(["model", "parameters", "GMAC per face", "s per face"], models),
        f"Measured at {results['size']} px; time on {results['device']} with {results['threads']} CPU threads, "
        f"{results['batch_size']} faces at once. Mean and 95 % bootstrap interval over the faces:",
        markdown_table(["model", "faces", *heads], means),
        "Difference to the input, face by face:",
        markdown_table(["model", "faces", *heads], differences),
        "Gain over the input, and identity distance as a factor of the input's:",
        gains_table(results["gains"]),
    ]
    notes = [f"{METRICS[name].heading}: {note}." for name, note in results["notes"].items()]
    return "\n\n".join(parts + notes)


def save_results(results: Mapping, folder: Path) -> None:
    """Writes results.json and results.md."""
    save_report(results, markdown(results), folder)


def save_report(results: Mapping, report: str, folder: Path) -> None:
    """Writes results.json (strict JSON: null where there is no number) and a report of them, results.md."""
    texts = {"results.json": strict_json(results, indent=1), "results.md": report + "\n"}
    for name, text in texts.items():
        with written_whole(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
