"""The model card of a pipeline: the template in `repository/`, filled from its components and measured figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from torch import nn

from hf_faceenh.components import component_rows
from hf_faceenh.learning.tables import INPUT, METRICS, Metric, gains_table, markdown_table, model_index_results
from hf_faceenh.loading import VARIANTS
from hf_faceenh.models.costs import parameter_count
from hf_faceenh.onnx.graphs import OPSET, Shape, graphs_of
from hf_faceenh.pipeline import FaceEnhancePipeline
from hf_faceenh.results import read_results
from hf_faceenh.serialization import BUNDLED, OURS

REPOSITORY = Path(__file__).parent / "repository"
EXAMPLE = "examples/astronaut.jpg"
PERMISSIVE = "Apache-2.0 BSD-3-Clause CC0-1.0 MIT".split()
WIDER_FACE = "CUHK-CSE/wider_face"  # what the Hub calls the dataset that the bundled detector was trained on


def model_card(
    pipeline: FaceEnhancePipeline,
    results: Mapping[str, Any] | None = None,
    repo_id: str = "hf-faceenh",
    datasets: Sequence[str] = (),
    onnx: bool = False,
) -> ModelCard:
    """The filled template; see `hf_faceenh.hub.export` for the arguments and errors."""
    networks = {name: model for name, model in pipeline.components.items() if isinstance(model, nn.Module)}
    enhancer = networks["enhancer"]
    which = which_bundled(enhancer)
    bundled = {name for name, model in networks.items() if name != "enhancer" and _equal(model, BUNDLED / name)}
    bundled |= {"enhancer"} if which else set()
    if results is None and "enhancer" in bundled and (BUNDLED / "results.json").is_file():
        results = read_results(BUNDLED / "results.json")
    rows = own_rows(results, enhancer, which) if results else []
    licences = {str(getattr(model.config, "license", None)).split(" ")[0] for model in networks.values()}
    unclear = bool(licences - set(PERMISSIVE))

    template = ModelCard.load(REPOSITORY / "model_card.md")
    data, name = template.data, repo_id.split("/")[-1]
    data.license = "other" if unclear else "apache-2.0"
    if unclear:
        data.license_name, data.license_link = "licences-of-the-components", "README.md"
    detector = WIDER_FACE if "detector" in bundled else None
    data.datasets = list(filter(None, (*datasets, detector))) or None
    if rows:
        data.model_name = name
        data.metrics = list(dict.fromkeys(metric for row in rows for metric in row["metrics"]))
        data.eval_results = model_index_results(rows)
    return ModelCard.from_template(
        data,
        template_str="---\n{{ card_data }}\n---\n" + template.text,
        model_name=name,
        repo_id=repo_id,
        bundled=bundled,
        components=_described(networks),
        datasets=datasets,
        evaluation=evaluation(results, rows) if rows else None,
        onnx=onnx_table(networks) if onnx else None,
        opset=OPSET,
        example=EXAMPLE if pipeline.detector is not None else None,
        own_training=bool(bundled - {"detector", "recognizer"}),
        sample_size=enhancer.config.sample_size,
        which=which,
        unclear=unclear,
    )


def onnx_table(networks: Mapping[str, nn.Module]) -> str:
    """The files that `onnx.exporting` writes in float32, and the shapes of what goes in and comes out, as Markdown."""
    rows = [
        [f"`{role}/{graph.file()}`", _shapes(graph.inputs), _shapes(graph.outputs)]
        for role, graphs in graphs_of(networks).items()
        for graph in graphs
    ]
    return markdown_table(["file", "inputs", "outputs"], rows)


def _shapes(tensors: Mapping[str, Shape]) -> str:
    return ", ".join(f"`{name} [{', '.join(map(str, shape))}]`" for name, shape in tensors.items())


def which_bundled(enhancer: nn.Module) -> str | None:
    """Which of the enhancers that come with the package it is: default, or one of `VARIANTS`; `None` for any other."""
    names = {"default": "enhancer"} | VARIANTS
    return next((name for name, folder in names.items() if _equal(enhancer, BUNDLED / folder)), None)


def _equal(model: nn.Module, folder: Path) -> bool:
    config = json.loads((folder / "config.json").read_text())
    if type(model).__name__ not in (config.get("_class_name"), *config.get("architectures", ())):
        return False
    theirs = type(model).from_pretrained(folder, dtype=torch.float32).state_dict()
    ours = model.state_dict()
    return theirs.keys() == ours.keys() and all(
        ours[name].shape == tensor.shape and torch.equal(ours[name].cpu(), tensor) for name, tensor in theirs.items()
    )


def _described(networks: Mapping[str, nn.Module]) -> dict[str, dict[str, str]]:
    columns = ("class_name", "parameters", "gmac", "licence")
    described = {role: dict(zip(columns, cells, strict=True)) for role, *cells in component_rows(networks)}
    for row in described.values():
        row["library"] = "hf_faceenh" if row["class_name"] in OURS else "transformers"
    return described


def own_rows(results: Mapping[str, Any], enhancer: nn.Module, bundled_as: str | None = None) -> list[dict[str, Any]]:
    """The rows of `enhancer` and of the input, out of figures that may be those of several models side by side: of the
    one that is called `bundled_as`, else of the only one of its size.

    Raises:
        ValueError: where they do not tell which are the enhancer's.
    """
    size = parameter_count(enhancer)
    names = {row["model"] for row in results["rows"]} - {INPUT}
    if bundled_as in names:
        names = {bundled_as}
    elif models := results.get("models"):
        names = {name for name in names if models.get(name, {}).get("parameters") == size}
    if len(names) != 1:
        raise ValueError(
            f"The results hold the figures of {len(names)} models with this enhancer's {size} parameters; expected "
            "those of one. Measure it with training/evaluate.py."
        )
    return [row for row in results["rows"] if row["model"] in {INPUT, *names}]


def evaluation(results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Tables and the command that makes them, as Markdown.

    Args:
        results: of evaluate.py.
        rows: of one model and of the input.
    """
    by_model = {(row["level"], row["model"] == INPUT): row["metrics"] for row in rows}
    levels = list(dict.fromkeys(row["level"] for row in rows))
    lines = []
    for level in levels:
        for name, figures in by_model[level, False].items():
            metric = METRICS[name]
            before = by_model.get((level, True), {}).get(name)
            cells = _cell(metric, before), _cell(metric, figures), _cell(metric, figures.get("difference"), "+")
            lines.append([level, metric.title, *cells])
    pictures = max(row["pictures"] for row in rows)
    size = f" at {results['size']} px" if "size" in results else ""
    parts = [
        f"Measured on {pictures} degraded faces{size} against the sharp ones: mean and 95 % bootstrap interval over "
        "the faces. `input` is the degraded face, upscaled with bicubic interpolation.",
        markdown_table(["faces", "metric", "input", "enhanced", "difference"], lines),
        *(f"{METRICS[name].heading}: {note}." for name, note in results.get("notes", {}).items()),
    ]
    names = {row["model"] for row in rows}
    if gains := [row for row in results.get("gains", ()) if row["model"] in names]:
        parts += ["For whom it works, and the identity distance as a factor of the input's:", gains_table(gains)]
    for model in names & results.get("models", {}).keys():
        seconds = results["models"][model]["seconds_per_face"]
        parts.append(
            f"{seconds:.3f} s per face on {results['device']} with {results['threads']} CPU threads, "
            f"{results['batch_size']} faces at once."
        )
    measured = by_model[levels[0], False]
    options = {"identity": " --recognizer RECOGNIZER", "perceptual": " --backbone BACKBONE"}
    more = "".join(option for name, option in options.items() if name in measured)
    folders = " ".join(f"DEGRADED/{level}" for level in levels if level != "overall")
    parts.append(f"`python training/evaluate.py --hq SHARP --lq {folders} --model FOLDER{more} --output_dir OUT`")
    return "\n\n".join(parts)


def _cell(metric: Metric, figures: Mapping[str, Any] | None, sign: str = "") -> str:
    return "–" if figures is None or figures["mean"] is None else metric.cell(figures, sign)
