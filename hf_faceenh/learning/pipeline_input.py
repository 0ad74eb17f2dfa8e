"""What the pipeline shows to the enhancer: the mean of the photograph's crop and the super-resolved photograph's."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from hf_faceenh.models.super_resolver import SuperResolver

STEPS = 16  # sides that a degraded face is taken at, of which each is one batch for the super-resolver


class PipelineInput:
    """Turns some of the degraded faces of a batch into such means; the others stay as a plain crop shows them.

    Args:
        super_resolver: the pipeline's.
        share: of the faces, in [0, 1].
        seed: decides which, together with the number of the batch.
    """

    def __init__(self, super_resolver: SuperResolver, share: float, seed: int):
        self.super_resolver = super_resolver.eval().requires_grad_(False)
        self.share, self.seed = share, seed

    @torch.no_grad()
    def __call__(self, lq: torch.Tensor, sides: Sequence[int], number: int) -> torch.Tensor:
        """
        Args:
            lq: degraded faces, `[B, 3, S, S]` in [-1, 1], upscaled from their own sides with bicubic interpolation.
            sides: those, B of them, in px. A face is super-resolved at that size, rounded up to one of `STEPS`.
            number: of the batch.

        Returns:
            the same, with means where they were drawn.
        """
        rng, step, seen = np.random.default_rng((self.seed, number)), lq.shape[-1] / STEPS, lq.clone()
        steps = np.ceil(np.minimum(sides, lq.shape[-1]) / step).astype(int)
        steps[rng.random(len(steps)) >= self.share] = 0
        for count in np.unique(steps[steps > 0]):
            (chosen,) = np.nonzero(steps == count)
            where = torch.from_numpy(chosen).to(lq.device, non_blocking=True)
            seen[where] = (lq[where] + self._super_resolved(lq[where], round(count * step))) / 2
        return seen

    def _super_resolved(self, faces: torch.Tensor, side: int) -> torch.Tensor:
        """Without a filter against aliasing: the faces were upscaled, and their own pixels come back."""
        small = F.interpolate(faces, (side, side), mode="bicubic").clamp(-1, 1)
        large = self.super_resolver((small + 1) / 2, return_dict=False)[0].float().clamp(0, 1) * 2 - 1
        return F.interpolate(large, faces.shape[-2:], mode="bicubic", antialias=True).clamp(-1, 1)
