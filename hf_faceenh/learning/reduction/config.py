"""How channels are to be reduced."""

import math
from dataclasses import dataclass
from typing import Literal

from hf_faceenh.learning.settings import check_settings


@dataclass(frozen=True)
class ReductionConfig:
    """How channels are reduced.

    Args:
        target: multiply-accumulates in the end, as a share of the first network's; 1 reduces nothing.
        rounds: reductions to get there, where no layer is relaxed.
        index_psnr: image quality index: loss of PSNR in dB that a layer may cause in one round; inf: any. In rounds in
            which it is not cut, a layer saves it up for its next step.
        index_identity: likewise, for the distance of the face recognizer's embeddings.
        index_features: likewise, for the change of the feature maps that are computed from the layer's, as a share of
            their energy.
        total_psnr: loss of PSNR in dB that all layers together may cause in one round; inf: any.
        total_identity: likewise, for the distance of the embeddings. Where this and the four above are inf, nothing is
            tried, and all layers get the same ratio.
        importance: rank channels by taylor (their effect on the loss) or l2 (the norm of their weights).
        multiple: the channel counts of reduced layers are multiples of it, and at least it.
        largest_ratio: largest share of a layer's channels to remove in one round.
        calibration: faces per process that importance and quality are measured on.

    Raises:
        ValueError: for a value out of its range.
    """

    target: float = 0.25
    rounds: int = 20
    index_psnr: float = 0.1
    index_identity: float = 0.01
    index_features: float = 0.1
    total_psnr: float = 0.5
    total_identity: float = 0.05
    importance: Literal["taylor", "l2"] = "taylor"
    multiple: int = 8
    largest_ratio: float = 0.5
    calibration: int = 16

    def __post_init__(self):
        rules = {
            "target": (0 < self.target <= 1, "above 0 and at most 1"),
            "rounds": (self.rounds >= 1, "at least 1"),
            "index_psnr": (self.index_psnr > 0, "above 0"),
            "index_identity": (self.index_identity > 0, "above 0"),
            "index_features": (self.index_features > 0, "above 0"),
            "total_psnr": (self.total_psnr > 0, "above 0"),
            "total_identity": (self.total_identity > 0, "above 0"),
            "importance": (self.importance in ("taylor", "l2"), "taylor or l2"),
            "multiple": (self.multiple >= 1, "at least 1"),
            "largest_ratio": (0 < self.largest_ratio < 1, "between 0 and 1"),
            "calibration": (self.calibration >= 1, "at least 1"),
        }
        check_settings("reduction", self, rules)

    @property
    def indifferent(self) -> bool:
        """Whether no loss is too much, so that all layers count as equally sensitive."""
        indexes = (self.index_psnr, self.index_identity, self.index_features)
        return all(map(math.isinf, (*indexes, self.total_psnr, self.total_identity)))
