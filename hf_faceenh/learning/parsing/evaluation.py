"""How well a parser finds the regions: intersection over union."""

import torch
import torch.nn.functional as F
from torch.utils.data import Dataset
from transformers import SegformerForSemanticSegmentation

from hf_faceenh.learning.parsing.labels import LABELS
from hf_faceenh.learning.parsing.network import parser_inputs


@torch.no_grad()
def evaluate(
    model: SegformerForSemanticSegmentation, faces: Dataset, enhancer: torch.nn.Module | None = None
) -> tuple[torch.Tensor, float]:
    """IoU of every class and their mean, of all pixels of all labelled faces, at the size of the label maps; of the
    faces as they are, or as an enhancer makes them."""
    training = model.training
    model.eval()
    confusion = torch.zeros(len(LABELS), len(LABELS), dtype=torch.int64)
    for i in range(len(faces)):
        picture, ids = faces[i]
        pictures, degraded = torch.tensor(picture)[None].to(model.device), torch.tensor([True])
        logits = model(parser_inputs(pictures, degraded, model.config.sample_size, enhancer)).logits
        prediction = F.interpolate(logits, size=ids.shape, mode="bilinear")[0].argmax(0)
        confusion += confusion_matrix(prediction.cpu(), torch.from_numpy(ids), len(LABELS))
    model.train(training)
    return mean_iou(confusion)


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
