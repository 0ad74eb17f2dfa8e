"""What evaluation reports."""

from collections.abc import Sequence

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def confusion_matrix(prediction: torch.Tensor, target: torch.Tensor, num_classes: int) -> torch.Tensor:
    """How often a pixel of class t was predicted as class p.

    Args:
        prediction: class ids in 0…C-1, any shape and integer type.
        target: class ids, the same shape.
        num_classes: C.

    Returns:
        counts, `[C, C]` int64, rows: target, columns: prediction. Add those of several pictures, then take the
        `mean_iou` of the sum.

    Raises:
        ValueError: for different shapes, or an id outside 0…C-1.
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"confusion_matrix expects two label maps of one shape; got {list(prediction.shape)} and "
            f"{list(target.shape)}. Resize the logits to the target's size before their argmax."
        )
    for name, labels in (("prediction", prediction), ("target", target)):
        if labels.numel() and not 0 <= labels.min() <= labels.max() < num_classes:
            raise ValueError(
                f"confusion_matrix expects class ids from 0 to {num_classes - 1}; the {name} holds ids from "
                f"{labels.min()} to {labels.max()}. Map its ids to those of the model first."
            )
    pairs = target.flatten().long() * num_classes + prediction.flatten().long()
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def mean_iou(confusion: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Intersection over union of every class, and the mean over the classes that occur.

    Args:
        confusion: `[C, C]` counts of `confusion_matrix`.

    Returns:
        IoU per class, `[C]` float64 in [0, 1] (NaN where a class is in neither target nor prediction), and their mean
        without the NaNs.
    """
    intersection = confusion.diagonal().double()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    per_class = intersection / union
    return per_class, per_class.nanmean().item()


def psnr(enhanced: np.ndarray, hq: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of one `[H, W, 3]` uint8 picture, over all channels."""
    return float(peak_signal_noise_ratio(hq, enhanced))


def ssim(enhanced: np.ndarray, hq: np.ndarray) -> float:
    """Structural similarity of one `[H, W, 3]` uint8 picture (Wang et al. 2004: Gaussian window, σ 1.5), mean over
    the channels."""
    return float(
        structural_similarity(
            hq, enhanced, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def bootstrap_interval(values: Sequence[float], seed: int = 0, resamples: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean of `values` (percentile bootstrap over pictures)."""
    values = np.asarray(values)
    draws = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
