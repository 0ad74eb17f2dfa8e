"""What is measured on enhanced faces. They are `[S, S, 3]` uint8 RGB here, aligned in the FFHQ layout. What becomes of
the values is in `intervals` and `tables`."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import nn

from hf_faceenh.alignment import FFHQ_TEMPLATE, similarity_transform, transform_points
from hf_faceenh.learning.losses import PerceptualLoss
from hf_faceenh.models.detector import FaceDetector
from hf_faceenh.recognition import check_recognizer, identity_distance

BATCH = 8  # faces that go through a recognizer at once
FLAT = 16  # px, side of the squares in which noise is measured
HIGHEST_PSNR = 100.0  # in dB: what equal pictures have, so that a mean over faces stays a number


@torch.no_grad()
def face_metrics(
    enhanced: Sequence[np.ndarray],
    hq: Sequence[np.ndarray],
    recognizer: nn.Module | None = None,
    backbone: nn.Module | None = None,
    detector: FaceDetector | None = None,
    landmarks: Sequence | None = None,
) -> dict[str, list[float]]:
    """One value per face of every metric that what is given allows.

    Args:
        enhanced: `[S, S, 3]` uint8 each.
        hq: the sharp faces, likewise.
        recognizer: for "identity": the distance that it measures.
        backbone: `transformers` vision model as `PerceptualLoss` wants it, for "perceptual": the distance of its
            features. With an ImageNet classifier like MobileNetV2 that resembles LPIPS (Zhang et al. 2018), but it is
            not fitted to what people see, and its figures are not comparable with LPIPS.
        detector: with `landmarks`, for "landmarks": see `landmark_error`.
        landmarks: true points of each face, `[5, 2]` px of it, in the detector's order.

    Returns:
        name, as in `tables.METRICS` → values in the order of the faces; those of "landmarks" are NaN for a face that
        the detector does not find.

    Raises:
        ValueError: for lists of different lengths, pictures of different sizes, or a model of the wrong kind.
    """
    both = list(zip(enhanced, hq, strict=True))
    values = {name: [measure(*pair) for pair in both] for name, measure in PIXEL_METRICS.items()}
    if recognizer is not None:
        check_recognizer(recognizer)
        values["identity"] = []
        for start in range(0, len(both), BATCH):
            faces = (as_batch(pictures[start : start + BATCH], recognizer.device) for pictures in (enhanced, hq))
            values["identity"] += identity_distance(recognizer, *faces).tolist()
    if detector is not None and landmarks is not None:
        pairs = zip(enhanced, landmarks, strict=True)
        values["landmarks"] = [landmark_error(detector, face, points) for face, points in pairs]
    if backbone is not None:
        distance = PerceptualLoss(backbone).to(backbone.device)
        pairs = ([as_batch([picture], backbone.device) for picture in pair] for pair in both)
        values["perceptual"] = [float(distance(*pair)) for pair in pairs]
    return values


def as_batch(pictures: Sequence[np.ndarray], device: torch.device) -> torch.Tensor:
    """`[S, S, 3]` uint8 each → `[B, 3, S, S]` float32 in [-1, 1]."""
    return to_network(torch.from_numpy(np.stack(pictures)).to(device))


def to_network(pictures: torch.Tensor) -> torch.Tensor:
    """`[B, S, S, 3]` uint8 → `[B, 3, S, S]` float32 in [-1, 1], on the same device."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def as_pictures(faces: torch.Tensor) -> list[np.ndarray]:
    """`[B, 3, S, S]` in [-1, 1] → `[S, S, 3]` uint8 each."""
    pixels = ((faces.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).cpu().numpy())


@torch.no_grad()
def landmark_error(detector: FaceDetector, face: np.ndarray, landmarks: Sequence) -> float:
    """Mean distance of the five points that `detector` sees in a face from the true ones, in eye distances.

    A detector's points differ from the FFHQ layout's by a constant of its own, which follows from its config's
    template. It is subtracted, turned and scaled as the face is.

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
    """Standard deviation of what is finer than 2 px, in that tenth of the 16×16 squares where the sharp picture has
    the least of it: mostly skin and background.

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
