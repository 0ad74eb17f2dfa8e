"""The pixel loss with the teacher's image as the target."""

import torch
from torch import nn

from hf_faceenh.learning.losses.base import Frozen, freeze
from hf_faceenh.learning.losses.pixel import PixelLoss
from hf_faceenh.learning.losses.teacher import at_side, check_teacher


class ImitationLoss(Frozen):
    """The pixel loss of the student's enhanced faces, with the teacher's in place of the sharp ones (Ba & Caruana
    2014).

    What damage has taken from a face cannot be restored. The sharp face demands it all the same, something else at
    every step, and most of a small network's gradient is that noise. The teacher's image shows only what can be
    restored.

    Args:
        teacher: any face enhancer, of any sample size: faces are resized to it, and its own back. It is frozen.
        pixel: the pixel loss, of enhanced, sharp and degraded faces.

    Raises:
        ValueError: for a teacher that is no enhancer.
    """

    def __init__(self, teacher: nn.Module, pixel: PixelLoss):
        super().__init__()
        check_teacher(teacher)
        self.teacher = freeze(teacher)
        self.pixel = pixel

    def forward(self, enhanced: torch.Tensor, lq: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            theirs = self.teacher(at_side(lq, self.teacher.config.sample_size), return_dict=False)[0]
            theirs = at_side(theirs.float(), lq.shape[-1])
        return self.pixel(enhanced, theirs, lq)
