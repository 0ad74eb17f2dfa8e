"""Training a parser: aligned faces and their label maps in, a SegFormer that finds eleven regions out.

`LabelledFaces` (faces) hold pictures and label maps in the regions of `LABELS` (labels); `Samples` (samples) are made
of them at random; `make_model`, `parser_inputs` and `parsing_loss` (network) are what is trained; `evaluate`
(evaluation) gives its intersection over union.
"""

from hf_faceenh.learning.parsing.evaluation import confusion_matrix, evaluate, mean_iou
from hf_faceenh.learning.parsing.faces import LabelledFaces
from hf_faceenh.learning.parsing.labels import CELEBAMASK_HQ, HEAD_ID, LABELS, to_label_ids
from hf_faceenh.learning.parsing.network import (
    STRIDE,
    class_weights,
    load_parser,
    make_model,
    parser_inputs,
    parsing_loss,
    to_pixel_values,
)
from hf_faceenh.learning.parsing.samples import Samples

__all__ = [
    "CELEBAMASK_HQ",
    "HEAD_ID",
    "LABELS",
    "STRIDE",
    "LabelledFaces",
    "Samples",
    "class_weights",
    "confusion_matrix",
    "evaluate",
    "load_parser",
    "make_model",
    "mean_iou",
    "parser_inputs",
    "parsing_loss",
    "to_label_ids",
    "to_pixel_values",
]
