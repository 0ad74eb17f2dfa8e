"""Figures and pictures of a run: what the enhancer makes of faces that training never sees."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from hf_faceenh.learning.data import check_sizes, fixed_pairs, load_faces
from hf_faceenh.learning.degradation import Degradation
from hf_faceenh.learning.intervals import mean_with_interval
from hf_faceenh.learning.losses import relative_l1
from hf_faceenh.learning.metrics import as_batch, as_pictures, face_metrics
from hf_faceenh.learning.options import TrainingOptions
from hf_faceenh.learning.tables import INPUT

Pictures = list[np.ndarray]  # `[S, S, 3]` uint8 each
Columns = tuple[Pictures, ...]  # of a sheet of samples


class Validation:
    """Sharp validation faces, degraded once, and what the enhancer makes of them after each round.

    Args:
        options: of the run; without `validation`, there are no faces and no figures.
        size: side of the faces in px.
        accelerator: its device and precision are used.
        recognizer: measures identity distances, where given.
    """

    def __init__(
        self, options: TrainingOptions, size: int, accelerator: Accelerator, recognizer: torch.nn.Module | None
    ):
        self.batch_size, self.accelerator, self.recognizer = options.batch_size, accelerator, recognizer
        self.faces = None
        if options.validation:
            faces = load_faces(options.validation)
            faces = faces.select(range(min(options.validation_faces, len(faces))))
            check_sizes(faces, size)
            self.faces = fixed_pairs(faces, Degradation(probabilities=options.probabilities), size, options.seed)

    @cached_property
    def pairs(self) -> tuple[Pictures, Pictures]:
        """Degraded and sharp faces."""
        return tuple([np.asarray(pair[name]) for pair in self.faces] for name in ("lq", "hq"))

    @cached_property
    def input_metrics(self) -> dict[str, list[float]]:
        """Of the degraded faces themselves."""
        return face_metrics(*self.pairs, recognizer=self.recognizer)

    def assess(
        self, averaged: Callable[[], torch.nn.Module], others: dict[str, torch.Tensor]
    ) -> tuple[dict[str, float] | None, Columns]:
        """On the main process; the others wait for its figures.

        Args:
            averaged: makes the enhancer to assess.
            others: a batch of training; its faces are shown where there are no validation faces.

        Returns:
            means of the metrics, `None` without validation faces; and degraded, enhanced and sharp faces, on the main
            process only.
        """
        figures, columns = None, ()
        if self.accelerator.is_main_process:
            figures, columns = self._assess(averaged(), others)
        (figures,) = broadcast_object_list([figures])
        return figures, columns

    def _assess(
        self, model: torch.nn.Module, others: dict[str, torch.Tensor]
    ) -> tuple[dict[str, float] | None, Columns]:
        if self.faces is None:
            lq, hq = (as_pictures(others[name]) for name in ("lq", "hq"))
            return None, (lq, self.enhance(model, lq), hq)
        lq, hq = self.pairs
        enhanced = self.enhance(model, lq)
        figures = _means(face_metrics(enhanced, hq, recognizer=self.recognizer))
        figures |= {f"input_{name}": value for name, value in _means(self.input_metrics).items()}
        figures["relative_error"] = mean_relative_error(enhanced, hq, lq)
        return figures, (lq, enhanced, hq)

    def card_rows(self, model: torch.nn.Module) -> list[dict]:
        """Figures of input and enhancer for a model card; none without validation faces.

        Args:
            model: the enhancer, on the accelerator's device.
        """
        if self.faces is None:
            return []
        lq, hq = self.pairs
        enhanced = face_metrics(self.enhance(model, lq), hq, recognizer=self.recognizer)
        rows = []
        for name, values in {INPUT: self.input_metrics, "enhancer": enhanced}.items():
            metrics = {metric: mean_with_interval(of_each) for metric, of_each in values.items()}
            rows.append({"model": name, "level": "validation", "pictures": len(lq), "metrics": metrics})
        return rows

    @torch.no_grad()
    def enhance(self, model: torch.nn.Module, lq: Pictures) -> Pictures:
        """All of `lq`, batch by batch."""
        enhanced = []
        for start in range(0, len(lq), self.batch_size):
            batch = as_batch(lq[start : start + self.batch_size], self.accelerator.device)
            with self.accelerator.autocast():
                enhanced += as_pictures(model(batch, return_dict=False)[0])
        return enhanced


def _means(metrics: dict[str, list[float]]) -> dict[str, float]:
    return {name: float(np.nanmean(values)) for name, values in metrics.items()}


def mean_relative_error(enhanced: Pictures, hq: Pictures, lq: Pictures) -> float:
    """`relative_l1` of pictures."""
    faces = zip(enhanced, hq, lq, strict=True)
    cpu = torch.device("cpu")
    return float(np.mean([relative_l1(*(as_batch([face], cpu) for face in each)) for each in faces]))
