"""The distance that a face recognizer sees."""

import torch
from torch import nn

from hf_faceenh.learning.losses.base import Frozen, freeze, relative_error
from hf_faceenh.recognition import check_recognizer, embed, embedding_distance


class SimilarityLoss(Frozen):
    """Mean identity distance of enhanced from sharp faces.

    Args:
        recognizer: see `hf_faceenh.recognition`. It is frozen.
        relative: take the logarithm of each face's distance relative to its degraded input's instead, for the reasons
            that `relative_l1` gives: a bare distance is decided by the heavily damaged faces.

    Raises:
        ValueError: for a model that is no recognizer.
    """

    def __init__(self, recognizer: nn.Module, relative: bool = False):
        super().__init__()
        check_recognizer(recognizer)
        self.recognizer = freeze(recognizer)
        self.relative = relative

    def forward(self, enhanced: torch.Tensor, hq: torch.Tensor, lq: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = embed(self.recognizer, hq)
            before = embedding_distance(self.recognizer, embed(self.recognizer, lq), target) if self.relative else None
        distance = embedding_distance(self.recognizer, embed(self.recognizer, enhanced), target)
        return relative_error(distance, before).log().mean() if self.relative else distance.mean()
