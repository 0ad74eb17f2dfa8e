"""Every model over every face: values, times, and contact sheets of what they made."""

import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from hf_faceenh.learning.degradation import resize
from hf_faceenh.learning.evaluation.faces import read_square
from hf_faceenh.learning.metrics import as_batch, as_pictures, face_metrics, landmark_error
from hf_faceenh.learning.sheets import contact_sheet
from hf_faceenh.learning.tables import INPUT

SHARP = "sharp"  # the sharp faces' name among the models
SHEET_ROWS = 8


class Evaluation:
    """Runs all models over all levels.

    Args:
        models: name → enhancer.
        size: side in px to measure at.
        instruments: recognizer, backbone and detector, or `None` for them, as `face_metrics` takes them.
        landmarks: file name → landmarks in px of the sharp file.
        made: name of another program → degraded face → its enhanced face, as `made_faces` gives them.
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

    def level(self, name: str, paths: list[Path], sharp: Path, batch_size: int) -> np.ndarray:
        """Measures one level.

        Args:
            name: of the level.
            paths: its degraded faces.
            sharp: folder of the sharp faces, which have the same names.
            batch_size: faces that go through a model at once.

        Returns:
            its contact sheet, `[H, W, 3]` uint8: degraded | each model | sharp.
        """
        strips: dict[str, list[np.ndarray]] = {}
        for start in tqdm(range(0, len(paths), batch_size), desc=name, unit="batch", disable=None):
            for column, faces in self._batch(name, paths[start : start + batch_size], sharp).items():
                strips.setdefault(column, []).extend(faces[: max(0, SHEET_ROWS - start)])
        return contact_sheet(("/".join(Path(column).parts[-2:]), faces) for column, faces in strips.items())

    def _batch(self, level: str, paths: list[Path], sharp: Path) -> dict[str, list[np.ndarray]]:
        """Adds the values of one batch; all its faces, by column of the contact sheet."""
        originals = [read_square(sharp / path.name) for path in paths]
        columns, seconds = self._columns(paths, originals)
        hq = columns.pop(SHARP)
        for name in self.models:
            self.seconds[name] += seconds[name]
        self.faces += len(paths)

        landmarks = None
        if self.landmarks is not None:
            factors = [self.size / len(picture) for picture in originals]
            landmarks = [self.landmarks[path.name] * factor for path, factor in zip(paths, factors, strict=True)]
            for path, face, points in zip(paths, hq, landmarks, strict=True):
                if path.name not in self.sharp_errors:
                    self.sharp_errors[path.name] = landmark_error(self.instruments["detector"], face, points)
        for name, faces in columns.items():
            values = self.values.setdefault((level, name), {})
            for metric, figures in face_metrics(faces, hq, **self.instruments, landmarks=landmarks).items():
                # What is not finite counts as not found: no mean includes it, and JSON has no word for it.
                found = (value if math.isfinite(value) else math.nan for value in figures)
                values.setdefault(metric, []).extend(found)
        return columns | {SHARP: hq}

    def _columns(
        self, paths: list[Path], originals: list[np.ndarray]
    ) -> tuple[dict[str, list[np.ndarray]], dict[str, float]]:
        """The faces of every column, those of `originals` last, `[size, size, 3]` uint8 each; and how many seconds
        each model took."""
        lq, seconds = [read_square(path) for path in paths], {}
        columns = {INPUT: [resize(picture, (self.size, self.size)) for picture in lq]}
        for name, model in self.models.items():
            columns[name], seconds[name] = enhance(model, lq, self.size)
        for name, faces in self.made.items():
            columns[name] = [resize(read_square(faces[path]), (self.size, self.size)) for path in paths]
        columns[SHARP] = [resize(picture, (self.size, self.size)) for picture in originals]
        return columns, seconds

    def extremes(self, levels: Mapping[str, list[Path]], sharp: Path) -> np.ndarray:
        """A contact sheet of three faces of each level, which are done: those to which the first model does most good
        in PSNR, middling, and least.

        Args:
            levels: level → its degraded faces, as `level` took them.
            sharp: folder of the sharp faces, which have the same names.
        """
        first, chosen = next(iter(self.models)), []
        for level, paths in levels.items():
            gains = np.subtract(*(self.values[level, name]["psnr"] for name in (first, INPUT)))
            order = np.argsort(-gains)
            chosen += [paths[order[place]] for place in (0, len(order) // 2, -1)]
        columns, _ = self._columns(chosen, [read_square(sharp / path.name) for path in chosen])
        return contact_sheet(("/".join(Path(column).parts[-2:]), faces) for column, faces in columns.items())


@torch.no_grad()
def enhance(model: torch.nn.Module, lq: list[np.ndarray], size: int) -> tuple[list[np.ndarray], float]:
    """The enhanced faces, `[size, size, 3]` uint8 each, and how many seconds the model took from pixels to pixels."""
    inputs = [resize(picture, (model.config.sample_size,) * 2) for picture in lq]
    started = time.perf_counter()
    output = model(as_batch(inputs, model.device), return_dict=False)[0]
    pictures = as_pictures(output)
    seconds = time.perf_counter() - started
    return [resize(picture, (size, size)) for picture in pictures], seconds
