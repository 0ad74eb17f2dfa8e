"""What evaluation reports. Pictures of faces are `[S, S, 3]` uint8 RGB here, aligned in the FFHQ layout."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from huggingface_hub import EvalResult
from torch import nn

from hf_faceenh.alignment import FFHQ_TEMPLATE, similarity_transform, transform_points
from hf_faceenh.learning.identity import check_recognizer, identity_distance
from hf_faceenh.learning.losses import PerceptualLoss
from hf_faceenh.models.detector import FaceDetector

BATCH = 8  # faces that go through a recognizer at once
INPUT = "input"  # the enlarged poor faces' name among the models that are measured
FLAT = 16  # px, side of the squares in which noise is measured
HIGHEST_PSNR = 100.0  # in dB: what equal pictures have, so that a mean over faces stays a number


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
        """What `mean_with_interval` gives, for a table, or a mean alone; `sign` is "+" for differences."""
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


@torch.no_grad()
def face_metrics(
    enhanced: Sequence[np.ndarray],
    hq: Sequence[np.ndarray],
    recognizer: nn.Module | None = None,
    backbone: nn.Module | None = None,
    detector: FaceDetector | None = None,
    landmarks: Sequence | None = None,
) -> dict[str, list[float]]:
    """One value per face of every metric that can be taken with what is given.

    Args:
        enhanced: `[S, S, 3]` uint8 each.
        hq: their sharp twins, likewise.
        recognizer: for "identity": whose `identity_distance` it is.
        backbone: `transformers` vision model as `PerceptualLoss` wants it, for "perceptual": the distance of its
            features. With an ImageNet classifier like MobileNetV2 that resembles LPIPS (Zhang et al. 2018), but nobody
            has fitted it to what people see, and its figures are not comparable with LPIPS.
        detector: with `landmarks`, for "landmarks": see `landmark_error`.
        landmarks: true points of each face, `[5, 2]` px of it, in the detector's order.

    Returns:
        name, as in `METRICS` → values in the order of the faces; those of "landmarks" are NaN for a face that the
        detector does not find.

    Raises:
        ValueError: for lists of different lengths, pictures of different sizes, or a model of the wrong kind.
    """
    twins = list(zip(enhanced, hq, strict=True))
    values = {name: [measure(*pair) for pair in twins] for name, measure in PIXEL_METRICS.items()}
    if recognizer is not None:
        check_recognizer(recognizer)
        values["identity"] = []
        for start in range(0, len(twins), BATCH):
            faces = (as_batch(pictures[start : start + BATCH], recognizer.device) for pictures in (enhanced, hq))
            values["identity"] += identity_distance(recognizer, *faces).tolist()
    if detector is not None and landmarks is not None:
        pairs = zip(enhanced, landmarks, strict=True)
        values["landmarks"] = [landmark_error(detector, face, points) for face, points in pairs]
    if backbone is not None:
        distance = PerceptualLoss(backbone).to(backbone.device)
        pairs = ([as_batch([picture], backbone.device) for picture in pair] for pair in twins)
        values["perceptual"] = [float(distance(*pair)) for pair in pairs]
    return values


def as_batch(pictures: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    """`[S, S, 3]` uint8 each → `[B, 3, S, S]` float32 in [-1, 1]."""
    return torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def as_pictures(faces: torch.Tensor) -> list[np.ndarray]:
    """`[B, 3, S, S]` in [-1, 1] → `[S, S, 3]` uint8 each."""
    pixels = ((faces.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).cpu().numpy())


@torch.no_grad()
def landmark_error(detector: FaceDetector, face: np.ndarray, landmarks: Sequence) -> float:
    """Mean distance of the five points that `detector` sees in a face from the true ones, in eye distances.

    A detector's points lie off the FFHQ layout's by a constant of its own, which its config's template states; that is
    taken off, turned and scaled as the face is.

    Args:
        face: `[S, S, 3]` uint8.
        landmarks: true points `[5, 2]`, (x, y) px of `face`.

    Returns:
        ≥ 0; NaN where no face is found around the middle of the true points.
    """
    points = torch.as_tensor(np.asarray(landmarks), dtype=torch.float32)  # [5, 2]
    found = detector.detect(torch.tensor(face).permute(2, 0, 1) / 255)
    boxes, middle = found.boxes.cpu(), points.mean(dim=0)
    around = ((boxes[:, :2] <= middle) & (middle <= boxes[:, 2:])).all(dim=1)
    if not around.any():
        return math.nan
    layout, template = torch.tensor(FFHQ_TEMPLATE), torch.tensor(detector.config.template)
    to_face = similarity_transform(layout[None], points)[0]
    constant = transform_points(to_face, template) - transform_points(to_face, layout)
    errors = (found.landmarks.cpu()[around][0] - constant - points).norm(dim=1)  # of the surest one
    return float(errors.mean() / (points[1] - points[0]).norm())


def psnr(enhanced: np.ndarray, hq: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of one `[H, W, 3]` uint8 picture, over all channels; at most `HIGHEST_PSNR`."""
    from skimage.metrics import peak_signal_noise_ratio  # of the extra `train`: model cards do without it

    with np.errstate(divide="ignore"):  # of equal pictures it is infinite
        return min(float(peak_signal_noise_ratio(hq, enhanced)), HIGHEST_PSNR)


def ssim(enhanced: np.ndarray, hq: np.ndarray) -> float:
    """Structural similarity of one `[H, W, 3]` uint8 picture (Wang et al. 2004: Gaussian window, σ 1.5), mean over
    the channels."""
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            hq, enhanced, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def flat_noise(enhanced: np.ndarray, hq: np.ndarray) -> float:
    """Standard deviation of what is finer than 2 px, in those tenth of the 16×16 squares where the sharp picture has
    least of it: mostly skin and background.

    Args:
        enhanced, hq: `[H, W, 3]` uint8; `H`, `W` ≥ 16.

    Returns:
        ≥ 0, in steps of 255. The sharp picture's own, above 0 as well, is `flat_noise(hq, hq)`.
    """

    def deviation(picture: np.ndarray) -> np.ndarray:
        fine = picture.astype(np.float32) - cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 2)
        rows, columns = (length // FLAT for length in fine.shape[:2])
        squares = fine[: rows * FLAT, : columns * FLAT].reshape(rows, FLAT, columns, FLAT, 3)
        return squares.std(axis=(1, 3, 4)).ravel()

    flattest = np.argsort(deviation(hq))[: max(1, hq.shape[0] * hq.shape[1] // (10 * FLAT**2))]
    return float(deviation(enhanced)[flattest].mean())


PIXEL_METRICS = {"psnr": psnr, "ssim": ssim, "noise": flat_noise}  # that need nothing but the two pictures


def bootstrap_interval(
    values: Sequence[float], faces: Sequence[str] | None = None, seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """95 % interval of the mean of `values` (percentile bootstrap).

    Args:
        values: one per picture.
        faces: whom each picture shows. Faces are drawn, with all their pictures, because several pictures of one face
            are no independent samples; without it, pictures are.
    """
    _, which = np.unique(np.arange(len(values)) if faces is None else faces, return_inverse=True)
    sums, counts = np.bincount(which, values), np.bincount(which)
    draws = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    low, high = np.percentile(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def mean_with_interval(values: Sequence[float], faces: Sequence[str] | None = None) -> dict:
    """{"mean", "interval": of `bootstrap_interval`, "missing": number of NaNs, which are left out}; mean and interval
    are `None` where nothing else is there."""
    values = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(values)
    missing = int((~there).sum())
    if not there.any():
        return {"mean": None, "interval": None, "missing": missing}
    interval = bootstrap_interval(values[there], None if faces is None else np.asarray(faces)[there])
    return {"mean": float(values[there].mean()), "interval": interval, "missing": missing}


def markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def model_index_results(rows: Iterable[Mapping]) -> list[EvalResult]:
    """Figures for a model card's metadata (`huggingface_hub.ModelCardData(eval_results=…)`).

    Args:
        rows: those of evaluate.py's results.json: "model", "level" (the name of the poor faces), "pictures" and
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
