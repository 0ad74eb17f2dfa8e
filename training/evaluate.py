"""Measures face enhancers on pairs of sharp and poor faces, side by side in one run.

    python training/evaluate.py --hq FOLDER --lq FOLDER [FOLDER …] --model FOLDER_OR_HUB_NAME … [--output_dir OUT]

The faces are square and aligned (FFHQ layout); the poor ones bear the names of their sharp twins and may be of any
size. Every model gets the poor face enlarged to its own `sample_size` with bicubic interpolation; all are measured at
`--size`, against the sharp face reduced to it by area. The enlarged face itself is the line `input` of the tables, and
every model's difference to it is also taken face by face.

PSNR and SSIM always; `--recognizer` adds the identity distance, `--backbone` the distance of that network's features
(not LPIPS), and landmarks in metadata.jsonl the error of the points that the bundled detector finds. `--made` adds
what any other program made of the same poor faces, whatever its size. With `--output_dir` also results.json, with
every face's values, results.md, and for every folder of poor faces a contact sheet of poor | each model | sharp.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from hf_faceenh.learning.degradation import resize
from hf_faceenh.learning.identity import check_recognizer
from hf_faceenh.learning.metrics import (
    INPUT,
    METRICS,
    as_batch,
    as_pictures,
    face_metrics,
    landmark_error,
    markdown_table,
    mean_with_interval,
)
from hf_faceenh.learning.reduction import macs
from hf_faceenh.models import FaceDetector, load_enhancer, load_transformers

SHARP = "sharp"  # the sharp faces' name among the models
OVERALL = "overall"  # name of all levels together
SHEET_ROWS = 8
HEADER = 20  # px for the names above a contact sheet


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hq", type=Path, required=True, help="folder of sharp faces")
    parser.add_argument("--lq", type=Path, nargs="+", required=True, help="folders of poor faces, e.g. one per level")
    parser.add_argument(
        "--model", nargs="+", required=True, help="enhancers or pipelines with one: folders or Hub names"
    )
    parser.add_argument(
        "--made",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="faces that other programs enhanced: a folder each, with one per level in it, named as those of --lq",
    )
    parser.add_argument("--recognizer", help="face recognizer: folder or Hub name")
    parser.add_argument("--backbone", help="transformers vision model: folder or Hub name, e.g. of a MobileNetV2")
    parser.add_argument(
        "--metadata", type=Path, help="JSON lines with file_name and landmarks (default: HQ/metadata.jsonl if there)"
    )
    parser.add_argument("--size", type=int, help="side in px to measure at (default: the first model's sample_size)")
    parser.add_argument("--batch_size", type=int, default=8, help="faces that go through a model at once")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output_dir", type=Path)
    return parser.parse_args(arguments)


# What to measure, and with what


def find_device(name: str) -> torch.device:
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"--device {name} is not to be had: {str(error).splitlines()[0]}") from error


def levels_of(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Name of a folder → its pictures."""
    levels = {}
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"--lq {folder} is not a folder.")
        known = Image.registered_extensions()
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in known)
        if not paths:
            raise ValueError(f"--lq {folder} holds no pictures.")
        name = folder.resolve().name
        if name in (*levels, OVERALL):
            raise ValueError(f"--lq {folder}: a level is called {name} already; rename the folder.")
        levels[name] = paths
    return levels


def read_landmarks(path: Path) -> dict[str, np.ndarray]:
    """File name → landmarks `[5, 2]` px of that file, of those lines that have them."""
    landmarks = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            if row.get("landmarks") is not None:
                landmarks[row["file_name"]] = np.array(row["landmarks"], np.float32).reshape(5, 2)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}, line {number}: expected a JSON object with file_name and five landmarks (x, y); {error}."
            ) from error
    return landmarks


def landmarks_for(args: argparse.Namespace, levels: dict[str, list[Path]]) -> dict[str, np.ndarray] | None:
    """The landmarks of all sharp faces, if they are to be had."""
    path = args.metadata or args.hq / "metadata.jsonl"
    if args.metadata is None and not path.exists():
        return None
    landmarks = read_landmarks(path)
    lacking = {face.name for paths in levels.values() for face in paths} - landmarks.keys()
    if not lacking:
        return landmarks
    message = f"{path} has no landmarks for {len(lacking)} faces, such as {min(lacking)}"
    if args.metadata:
        raise ValueError(f"{message}.")
    print(f"{message}: no landmark errors.", file=sys.stderr)
    return None


def made_faces(folder: Path, levels: dict[str, list[Path]]) -> dict[Path, Path]:
    """Poor face → what another program made of it: the picture of its level and name, of whatever format.

    Raises:
        ValueError: where one is missing.
    """
    known, made = Image.registered_extensions(), {}
    for level, paths in levels.items():
        pictures = {path.stem: path for path in (folder / level).glob("*") if path.suffix.lower() in known}
        for path in paths:
            if path.stem not in pictures:
                raise ValueError(f"--made {folder}: expected an enhanced {path.name} in {folder / level}.")
            made[path] = pictures[path.stem]
    return made


# One batch of faces


def read_square(path: Path) -> np.ndarray:
    """`[S, S, 3]` uint8 RGB."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise ValueError(f"{path} is missing or not a picture; every poor face needs a sharp twin of its name.")
    height, width = picture.shape[:2]
    if height != width:
        raise ValueError(f"{path} is {width}×{height} px; expected an aligned, square face.")
    return np.ascontiguousarray(picture[..., ::-1])


@torch.no_grad()
def enhance(model: torch.nn.Module, poor: list[np.ndarray], size: int) -> tuple[list[np.ndarray], float]:
    """The enhanced faces, `[size, size, 3]` uint8 each, and how many seconds the model took from pixels to pixels."""
    inputs = [resize(picture, (model.config.sample_size,) * 2) for picture in poor]
    started = time.perf_counter()
    output = model(as_batch(inputs, model.device), return_dict=False)[0]
    pictures = as_pictures(output)
    seconds = time.perf_counter() - started
    return [resize(picture, (size, size)) for picture in pictures], seconds


class Evaluation:
    """Runs all models over all levels.

    Args:
        models: name → enhancer.
        size: side in px to measure at.
        instruments: recognizer, backbone and detector, for `face_metrics`.
        landmarks: file name → landmarks in px of the sharp file.
        made: name of another program → poor face → its enhanced face, as of `made_faces`.
    """

    def __init__(
        self,
        models: dict[str, torch.nn.Module],
        size: int,
        instruments: dict[str, torch.nn.Module | None],
        landmarks: dict[str, np.ndarray] | None,
        made: dict[str, dict[Path, Path]],
    ):
        self.models, self.size, self.instruments, self.landmarks = models, size, instruments, landmarks
        self.made = made
        self.values: dict[tuple[str, str], dict[str, list[float]]] = {}  # (level, model) → metric → value of each face
        self.seconds = dict.fromkeys(models, 0.0)
        self.faces = 0
        self.sharp_errors: dict[str, float] = {}  # file name → landmark error of the sharp face
        for model in models.values():
            side = model.config.sample_size
            enhance(model, [np.zeros((side, side, 3), np.uint8)], size)  # the first call of a process takes longer

    def level(self, name: str, paths: list[Path], hq: Path, batch_size: int) -> np.ndarray:
        """Measures one level; its contact sheet, `[H, W, 3]` uint8."""
        strips: dict[str, list[np.ndarray]] = {}
        for start in tqdm(range(0, len(paths), batch_size), desc=name, unit="batch", disable=None):
            for column, faces in self._batch(name, paths[start : start + batch_size], hq).items():
                strips.setdefault(column, []).extend(faces[: max(0, SHEET_ROWS - start)])
        return np.concatenate([with_header(column, faces) for column, faces in strips.items()], axis=1)

    def _batch(self, level: str, paths: list[Path], hq: Path) -> dict[str, list[np.ndarray]]:
        """Adds the values of one batch; all its faces, by column of the contact sheet."""
        originals = [read_square(hq / path.name) for path in paths]
        sharp = [resize(picture, (self.size, self.size)) for picture in originals]
        poor = [read_square(path) for path in paths]
        columns = {INPUT: [resize(picture, (self.size, self.size)) for picture in poor]}
        for name, model in self.models.items():
            columns[name], seconds = enhance(model, poor, self.size)
            self.seconds[name] += seconds
        for name, faces in self.made.items():
            columns[name] = [resize(read_square(faces[path]), (self.size, self.size)) for path in paths]
        self.faces += len(paths)

        landmarks = None
        if self.landmarks is not None:
            factors = [self.size / len(picture) for picture in originals]
            landmarks = [self.landmarks[path.name] * factor for path, factor in zip(paths, factors, strict=True)]
            for path, face, points in zip(paths, sharp, landmarks, strict=True):
                if path.name not in self.sharp_errors:
                    self.sharp_errors[path.name] = landmark_error(self.instruments["detector"], face, points)
        for name, faces in columns.items():
            values = self.values.setdefault((level, name), {})
            for metric, figures in face_metrics(faces, sharp, **self.instruments, landmarks=landmarks).items():
                values.setdefault(metric, []).extend(figures)
        return columns | {SHARP: sharp}


def with_header(name: str, faces: list[np.ndarray]) -> np.ndarray:
    """One column of a contact sheet, named by the end of its model's name."""
    header = Image.new("RGB", (faces[0].shape[1], HEADER), "white")
    ImageDraw.Draw(header).text((2, 2), "/".join(Path(name).parts[-2:]), "black", ImageFont.load_default(14))
    return np.concatenate([np.asarray(header), *faces])


# Results


def row_of(model: str, level: str, faces: list[str], values: dict, inputs: dict) -> dict:
    """
    Args:
        model: name.
        level: name.
        faces: name of the face on each picture.
        values: metric → value of each picture.
        inputs: the same of the enlarged poor faces.
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


def rows_of(evaluation: Evaluation, faces: dict[str, list[str]]) -> list[dict]:
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
            rows.append(row_of(model, level, names, values, evaluation.values[level, INPUT]))
            rows[-1]["by_face"] = {
                name: {metric: None if np.isnan(v[i]) else v[i] for metric, v in values.items()}
                for i, name in enumerate(names)
            }
    if len(faces) > 1:
        pooled = {
            model: {
                metric: sum((evaluation.values[level, model][metric] for level in faces), [])
                for metric in rows[0]["metrics"]
            }
            for model in models
        }
        rows += [row_of(model, OVERALL, everything, values, pooled[INPUT]) for model, values in pooled.items()]
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
    ]
    notes = [f"{METRICS[name].heading}: {note}." for name, note in results["notes"].items()]
    return "\n\n".join(parts + notes)


def notes_of(args: argparse.Namespace, evaluation: Evaluation) -> dict[str, str]:
    """Metric → what its figures hang on."""
    notes, instruments = {}, evaluation.instruments
    if (recognizer := instruments["recognizer"]) is not None:
        notes["identity"] = f"{recognizer.config.distance}, of the embeddings of {args.recognizer}"
    if evaluation.sharp_errors:
        floor = METRICS["landmarks"].cell(mean_with_interval(list(evaluation.sharp_errors.values())))
        notes["landmarks"] = f"mean over the five points; of the sharp faces themselves {floor}"
    if (backbone := instruments["backbone"]) is not None:
        notes["perceptual"] = f"features of the {type(backbone).__name__} {args.backbone}"
    return notes


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    for option in ("batch_size", "size"):
        if (value := getattr(args, option)) is not None and value < 1:
            raise ValueError(f"--{option} must be at least 1; got {value}.")
    if taken := {INPUT, SHARP} & {*args.model, *map(str, args.made)}:
        raise ValueError(f"--model {min(taken)}: so are the faces themselves called; write ./{min(taken)}.")
    if args.output_dir:
        args.output_dir.mkdir(parents=True, exist_ok=True)
    device = find_device(args.device)
    levels = levels_of(args.lq)
    made = {str(folder): made_faces(folder, levels) for folder in args.made}
    landmarks = landmarks_for(args, levels)
    layout = torch.channels_last  # as in the pipeline
    models = {
        name: load_enhancer(name, torch_dtype=torch.float32).to(device, memory_format=layout).eval()
        for name in args.model
    }
    instruments = {}
    for name in ("recognizer", "backbone"):
        model = load_transformers(f"--{name}", getattr(args, name))
        instruments[name] = model and model.to(device).eval()
    if instruments["recognizer"] is not None:
        check_recognizer(instruments["recognizer"])
    detector = files("hf_faceenh") / "weights/detector"
    instruments["detector"] = None if landmarks is None else FaceDetector.from_pretrained(detector).to(device)

    size = args.size or next(iter(models.values())).config.sample_size
    evaluation = Evaluation(models, size, instruments, landmarks, made)
    sheets = {name: evaluation.level(name, paths, args.hq, args.batch_size) for name, paths in levels.items()}
    results = {
        "size": size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "batch_size": args.batch_size,
        "models": {
            name: {
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "macs": macs(model),
                "seconds_per_face": evaluation.seconds[name] / evaluation.faces,
            }
            for name, model in models.items()
        },
        "notes": notes_of(args, evaluation),
        "rows": rows_of(evaluation, {name: [path.name for path in paths] for name, paths in levels.items()}),
    }
    report = markdown(results)
    print(report)
    if args.output_dir:
        (args.output_dir / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (args.output_dir / "results.md").write_text(report + "\n")
        for name, sheet in sheets.items():
            Image.fromarray(sheet).save(args.output_dir / f"{name}.png")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate.py: {' '.join(str(error).split())}")
