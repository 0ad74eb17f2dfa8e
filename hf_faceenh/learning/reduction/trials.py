"""The quality after a layer: of the network as it is, and with that layer reduced."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from hf_faceenh.models.channels import ChannelGroup, Reducible, masked
from hf_faceenh.recognition import identity_distance

Batch = Mapping[str, torch.Tensor]  # "hq": sharp faces, "lq": the same, degraded; `[B, 3, S, S]` in [-1, 1]
Loss = Callable[[torch.Tensor, Batch], torch.Tensor]  # (enhanced faces, batch) → scalar
Average = Callable[[torch.Tensor], torch.Tensor]  # over all processes

LEAST_SIDE = 32  # in px; a recognizer sees no face in smaller pictures


@dataclass(frozen=True)
class Quality:
    """Of enhanced faces against the sharp ones.

    Args:
        psnr: mean PSNR in dB.
        identity: mean distance of the recognizer's embeddings; `None` without a recognizer.
    """

    psnr: float
    identity: float | None


class Trials:
    """The network as it is and with one layer reduced, looked at after that layer.

    Args:
        model: the unreduced network.
        scores: layer → importance of its channels.
        batches: calibration faces.
        recognizer: compares identities, where given.
        average: over all processes.
    """

    def __init__(
        self,
        model: Reducible,
        scores: Mapping[str, torch.Tensor],
        batches: Sequence[Batch],
        recognizer: nn.Module | None,
        average: Average,
    ):
        self.model, self.scores, self.batches = model, scores, batches
        self.recognizer, self.average = recognizer, average
        self._before: dict[int | None, Quality] = {}  # by the resolution at which the image is looked at

    def most_important(self, group: ChannelGroup, ratio: float) -> torch.Tensor:
        """The channels that stay when `ratio` of them are removed, ascending, int64."""
        count = round(group.width * (1 - ratio))
        return self.scores[group.name].argsort(descending=True, stable=True)[:count].sort().values.cpu()

    def before(self, group: ChannelGroup) -> Quality:
        """The quality after the layer, unreduced."""
        depth = depth_of(group)
        if depth not in self._before:
            self._before[depth] = self.assess(self.model, group)
        return self._before[depth]

    def after(self, group: ChannelGroup, ratio: float) -> Quality:
        """The quality after the layer without its `ratio` least important channels."""
        with masked(self.model, {group.name: self.most_important(group, ratio)}):
            return self.assess(self.model, group)

    @torch.no_grad()
    def assess(self, model: nn.Module, group: ChannelGroup | None = None) -> Quality:
        """The quality of `model` after a layer; without one, of the final image. The mean over faces and processes."""
        figures = []
        for batch in self.batches:
            image, final = images_after(model, batch["lq"], group)
            hq = F.interpolate(batch["hq"], image.shape[-2:], mode="area")
            squared = (image.float().clamp(-1, 1) - hq).square().mean(dim=(1, 2, 3)).clamp(min=1e-10)
            psnr, identity = 10 * (4 / squared).log10(), torch.zeros_like(squared)  # 4: the square of the range
            if self.recognizer is not None:
                faces = (image, hq) if image.shape[-1] >= LEAST_SIDE else (final, batch["hq"])
                identity = identity_distance(self.recognizer, *faces)
            figures.append(torch.stack([psnr, identity.to(psnr)], dim=1))
        psnr, identity = self.average(torch.cat(figures).mean(dim=0)).tolist()
        return Quality(psnr, None if self.recognizer is None else identity)


def depth_of(group: ChannelGroup | None) -> int | None:
    """The resolution of the image that a layer is judged by: its own in the generating network; else `None`, for the
    final image."""
    return group.resolution if group is not None and group.part == "generating_network" else None


def images_after(model: nn.Module, lq: torch.Tensor, group: ChannelGroup | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The image that a layer is judged by, `[B, 3, r, r]`, and the final one, `[B, 3, S, S]`.

    Of a network that makes an image at every resolution, it is the one at the layer's depth; of one that makes only
    the final image, that one, downscaled by area to the layer's resolution.
    """
    depth = depth_of(group)
    if depth is None or group.image is None:
        final = model(lq, return_dict=False)[0]
        return (final if depth is None else F.interpolate(final, (depth, depth), mode="area")), final
    seen = []
    handle = model.get_submodule(group.image).register_forward_hook(lambda _, __, output: seen.append(output[-1]))
    try:
        final = model(lq, return_dict=False)[0]
    finally:
        handle.remove()
    return seen[0], final


def first_faces(batches: Sequence[Batch], count: int) -> list[dict[str, torch.Tensor]]:
    """The first `count` faces of `batches`, as batches.

    Raises:
        ValueError: without any face.
    """
    taken = []
    for batch in batches:
        if count > 0:
            taken.append({name: values[:count] for name, values in batch.items()})
            count -= len(batch["hq"])
    if not taken:
        raise ValueError("Channels cannot be reduced without calibration faces; give at least one batch.")
    return taken
