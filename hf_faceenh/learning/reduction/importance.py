"""Which channels of a layer matter most."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from hf_faceenh.learning.reduction.trials import Batch, Loss
from hf_faceenh.models.channels import ChannelGroup, Reducible, Slice


def importance(
    model: Reducible, batches: Sequence[Batch], loss: Loss, method: Literal["taylor", "l2"] = "taylor"
) -> dict[str, torch.Tensor]:
    """Layer → importance of each of its channels, `[width]` ≥ 0.

    - taylor: how much the loss of a face changes when the channel fades, to first order (Molchanov et al. 2019): the
      mean over faces of |Σ w·∂loss/∂w|, over the weights w that read the channel. Over these and not over those that
      make it, because demodulation hides the size of the latter from the loss.
    - l2: the norm of what makes the channel (Li et al. 2017) times the norm of the weights that read it, so that it
      does not matter which of the two is large. It needs no faces, but does not see demodulation.
    """
    groups, parameters = model.channel_groups(), dict(model.named_parameters())
    if method == "l2":
        return {
            group.name: _norms(parameters, group, group.producers) * _norms(parameters, group, _reading_weights(group))
            for group in groups
        }
    names = sorted({where.parameter for group in groups for where in _reading_weights(group)})
    weights = [parameters[name] for name in names]
    scores = {group.name: 0.0 for group in groups}
    faces = [{name: values[i : i + 1] for name, values in b.items()} for b in batches for i in range(len(b["hq"]))]
    for face in faces:
        with torch.enable_grad():
            value = loss(model(face["lq"], return_dict=False)[0], face)
        gradients = torch.autograd.grad(value, weights)
        effects = {name: (w * g).detach() for name, w, g in zip(names, weights, gradients, strict=True)}
        for group in groups:
            sums = [_channels(effects, group, where).sum(dim=1) for where in _reading_weights(group)]
            scores[group.name] += torch.stack(sums).sum(dim=0).abs() / len(faces)
    return scores


def _reading_weights(group: ChannelGroup) -> list[Slice]:
    return [where for where in group.consumers if where.dim == 1]


def _channels(tensors: Mapping[str, torch.Tensor], group: ChannelGroup, where: Slice) -> torch.Tensor:
    """A group's part of one tensor, `[width, entries per channel]`."""
    part = tensors[where.parameter].movedim(where.dim, 0)
    return part[where.start : where.start + group.width * where.repeat].reshape(group.width, -1)


def _norms(parameters: Mapping[str, torch.Tensor], group: ChannelGroup, slices: Sequence[Slice]) -> torch.Tensor:
    parts = [_channels(parameters, group, where).detach() for where in slices]
    return torch.cat(parts, dim=1).norm(dim=1)
