"""The recognizer that training and evaluation name."""

from pathlib import Path

from torch import nn

from hf_faceenh.models import FaceRecognizer
from hf_faceenh.models.auto import read_transformers
from hf_faceenh.models.soundness import refuse_gaps
from hf_faceenh.recognition import check_recognizer


def load_recognizer(name: str | Path) -> FaceRecognizer | nn.Module:
    """The recognizer in a folder or on the Hub, frozen, in float32 and evaluation mode.

    Raises:
        ValueError, OSError: in one line, where there is none or it is not complete.
    """
    unreadable = f"{name} holds no face recognizer that can be loaded"
    recognizer, missing = read_transformers("recognizer", name, unreadable)
    check_recognizer(recognizer)
    refuse_gaps("recognizer", name, missing)
    return recognizer.eval().requires_grad_(False)
