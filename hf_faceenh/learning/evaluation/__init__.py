"""Measuring enhancers on pairs of sharp and degraded faces, side by side in one run.

The faces are files: `levels_of` folders of degraded ones, the sharp ones of the same names, landmarks, and what other
programs made of them (`faces`). An `Evaluation` takes every enhancer over all of them (`measuring`); `results_of` it
are rows of means with intervals, which `markdown` writes as tables (`results`), and gains by `groups` of people.
"""

from hf_faceenh.learning.evaluation.faces import levels_of, made_faces, read_landmarks, read_square
from hf_faceenh.learning.evaluation.groups import read_groups
from hf_faceenh.learning.evaluation.measuring import SHARP, Evaluation, enhance
from hf_faceenh.learning.evaluation.results import markdown, results_of, save_report, save_results

__all__ = [
    "SHARP",
    "Evaluation",
    "enhance",
    "levels_of",
    "made_faces",
    "markdown",
    "read_groups",
    "read_landmarks",
    "read_square",
    "results_of",
    "save_report",
    "save_results",
]
