"""Measures face enhancers on pairs of sharp and degraded faces, side by side in one run.

    python training/evaluate.py --hq FOLDER --lq FOLDER [FOLDER …] --model FOLDER_OR_HUB_NAME … [--output_dir OUT]

The faces are square and aligned (FFHQ layout); the degraded ones have the names of the sharp ones and may be of any
size. Every model gets the degraded face upscaled to its own `sample_size` with bicubic interpolation; all are measured
at `--size`, against the sharp face downscaled to it by area. The upscaled face itself is the line `input` of the
tables, and every model's difference to it is also taken face by face.

PSNR and SSIM always; `--recognizer` adds the identity distance, `--backbone` the distance of that network's features
(not LPIPS), and landmarks in metadata.jsonl the error of the points that the bundled detector finds. `--made` adds
what any other program made of the same degraded faces, whatever its size. With `--output_dir` also results.json, with
every face's values, results.md, for every folder of degraded faces a contact sheet of degraded | each model |
sharp, and extremes.png: of each folder the faces that gained most, middling and least.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hf_faceenh.learning.evaluation import (
    SHARP,
    Evaluation,
    levels_of,
    made_faces,
    markdown,
    read_groups,
    read_landmarks,
    results_of,
    save_results,
)
from hf_faceenh.learning.identity import load_recognizer
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.tables import INPUT
from hf_faceenh.models import FaceDetector, load_enhancer, load_transformers
from hf_faceenh.serialization import BUNDLED


@dataclass
class Options:
    """Settings of `training/evaluate.py`.

    Args:
        hq: folder of sharp faces.
        lq: folders of degraded faces, e.g. one for each level.
        model: enhancers or pipelines with one: folders or Hub names.
        made: faces that other programs enhanced: a folder each, with one for each level in it, named as those of lq.
        recognizer: face recognizer (folder or Hub name).
        backbone: transformers vision model (folder or Hub name), e.g. a MobileNetV2.
        groups: JSON of group → names of faces; their gains are listed as well, next to everybody's.
        metadata: JSON lines with file_name and landmarks; metadata.jsonl of the sharp faces if that is there.
        size: side in px to measure at; by default the first model's sample_size.
        batch_size: faces that go through a model at once.
        device: that the models run on.
        output_dir: gets results.json, results.md and the contact sheets.
    """

    hq: Path
    lq: list[Path]
    model: list[str]
    made: list[Path] = field(default_factory=list)
    recognizer: str | None = None
    backbone: str | None = None
    groups: Path | None = None
    metadata: Path | None = None
    size: int | None = None
    batch_size: int = 8
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    output_dir: Path | None = None

    def __post_init__(self):
        for name in ("batch_size", "size"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1; got {value}.")
        if taken := {INPUT, SHARP} & {*self.model, *map(str, self.made)}:
            raise ValueError(f"--model {min(taken)}: the faces themselves have that name; write ./{min(taken)}.")


def find_device(name: str) -> torch.device:
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"--device {name} is not available: {str(error).splitlines()[0]}") from error


def find_landmarks(options: Options, levels: dict[str, list[Path]]) -> dict[str, np.ndarray] | None:
    """The landmarks of all sharp faces; `None` if there are none, or not of all faces."""
    path = options.metadata or options.hq / "metadata.jsonl"
    if options.metadata is None and not path.exists():
        return None
    landmarks = read_landmarks(path)
    lacking = {face.name for paths in levels.values() for face in paths} - landmarks.keys()
    if not lacking:
        return landmarks
    message = f"{path} has no landmarks for {len(lacking)} faces, such as {min(lacking)}"
    if options.metadata:
        raise ValueError(f"{message}.")
    print(f"{message}: no landmark errors.", file=sys.stderr)
    return None


def load_instruments(options: Options, device: torch.device, with_detector: bool) -> dict[str, torch.nn.Module | None]:
    instruments = {
        "recognizer": load_recognizer(options.recognizer) if options.recognizer else None,
        "backbone": load_transformers("--backbone", options.backbone),
        "detector": FaceDetector.from_pretrained(BUNDLED / "detector") if with_detector else None,
    }
    return {name: model and model.to(device).eval() for name, model in instruments.items()}


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__.splitlines()[0], arguments, several=("lq", "model", "made"))
    if options.output_dir:
        options.output_dir.mkdir(parents=True, exist_ok=True)
    device = find_device(options.device)
    levels = levels_of(options.lq)
    made = {str(folder): made_faces(folder, levels) for folder in options.made}
    landmarks = find_landmarks(options, levels)
    faces = sorted({face.name for paths in levels.values() for face in paths})
    groups = read_groups(options.groups, faces) if options.groups else {}
    layout = torch.channels_last  # as in the pipeline
    models = {
        name: load_enhancer(name, torch_dtype=torch.float32).to(device, memory_format=layout).eval()
        for name in options.model
    }
    instruments = load_instruments(options, device, with_detector=landmarks is not None)

    size = options.size or next(iter(models.values())).config.sample_size
    evaluation = Evaluation(models, size, instruments, landmarks, made)
    sheets = {name: evaluation.level(name, paths, options.hq, options.batch_size) for name, paths in levels.items()}
    sources = {"recognizer": options.recognizer, "backbone": options.backbone}
    results = results_of(evaluation, levels, device, options.batch_size, sources, groups)
    print(markdown(results))
    if options.output_dir:
        save_results(results, options.output_dir)
        for name, sheet in sheets.items():
            Image.fromarray(sheet).save(options.output_dir / f"{name}.png")
        extremes = evaluation.extremes(levels, options.hq)
        Image.fromarray(extremes).save(options.output_dir / "extremes.png")


if __name__ == "__main__":
    run_script(main)
