"""What follows the channels when a network is reduced: Adam's moments, averaged weights, distillation adapters."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from hf_faceenh.models.channels import Keep, Reducible, noise_feature_groups, reduce_tensors

MOMENT_POWERS = {"exp_avg": -1, "exp_avg_sq": -2, "max_exp_avg_sq": -2}  # of Adam and AdamW, in `reduce_tensors`


def follow_channels(
    old: Reducible,
    new: Reducible,
    keep: Keep,
    optimizer: torch.optim.Optimizer,
    make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    averages: Sequence[torch.Tensor] = (),
    adapters: nn.ModuleList | None = None,
) -> tuple[torch.optim.Optimizer, list[torch.Tensor]]:
    """Reduces what was trained along with the old network, so that training continues with the smaller one.

    Args:
        old: the network before the reduction; `new`: after it.
        keep: layer → channels that stayed.
        optimizer: Adam or AdamW of the parameters of `old` and of `adapters`.
        make_optimizer: makes one like it of other parameters; its learning rate is the caller's business.
        averages: averaged weights, in the order of `old.parameters()`.
        adapters: those of the distillation, which are fitted in place; see `reduce_adapters`.

    Returns:
        The optimiser of `new` and `adapters`, with step counts and moments; and the averaged weights in the order of
        `new.parameters()`, empty where none were given.
    """
    adapters = nn.ModuleList() if adapters is None else adapters
    reduce_adapters(adapters, old, keep, optimizer)
    following = make_optimizer([*new.parameters(), *adapters.parameters()])
    carry_optimizer(optimizer, old, new, keep, following)
    for parameter in filter(optimizer.state.__contains__, adapters.parameters()):
        following.state[parameter] = optimizer.state[parameter]
    return following, reduce_averages(averages, old, new, keep) if averages else []


def carry_optimizer(
    old_optimizer: torch.optim.Optimizer,
    old_model: Reducible,
    new_model: Reducible,
    keep: Keep,
    new_optimizer: torch.optim.Optimizer,
) -> None:
    """Gives the Adam or AdamW of the smaller network the step counts and, for the kept channels, the moments that the
    old one had. Learning rates and parameters of other models are left to the caller."""
    old_parameters, new_parameters = dict(old_model.named_parameters()), dict(new_model.named_parameters())
    states = {name: old_optimizer.state[p] for name, p in old_parameters.items() if p in old_optimizer.state}
    for name, state in states.items():
        new_optimizer.state[new_parameters[name]] = {"step": state["step"].clone()}
    for moment, power in MOMENT_POWERS.items():
        values = {name: state[moment] for name, state in states.items() if moment in state}
        for name, value in reduce_tensors(values, old_model, keep, power).items():
            new_optimizer.state[new_parameters[name]][moment] = value


def reduce_averages(
    averages: Sequence[torch.Tensor], old_model: Reducible, new_model: Reducible, keep: Keep
) -> list[torch.Tensor]:
    """The averaged weights of the kept channels; both lists in the order of their model's `parameters()`."""
    names = [name for name, _ in old_model.named_parameters()]
    reduced = reduce_tensors(dict(zip(names, averages, strict=True)), old_model, keep)
    return [reduced[name] for name, _ in new_model.named_parameters()]


@torch.no_grad()
def reduce_adapters(
    adapters: nn.ModuleList, old_model: Reducible, keep: Keep, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Fits a distillation's adapters, in place, to a reduced student; what they have learned about the kept channels
    stays.

    Args:
        adapters: 1×1 convolutions of the student's noise features, from S×S down to 4×4; or none.
        old_model: the student before the reduction.
        keep: layer → channels that stayed.
        optimizer: Adam or AdamW of the former adapters, if it is to hold the moments of the new ones as well.
    """
    if not adapters:
        return
    groups = noise_feature_groups(old_model.channel_groups())
    for index, (old, group) in enumerate(zip(adapters, groups, strict=True)):
        if group.name not in keep:
            continue
        channels = keep[group.name].to(old.weight.device)
        new = nn.utils.skip_init(nn.Conv2d, len(channels), old.out_channels, 1, device=old.weight.device)
        new.weight.copy_(old.weight[:, channels])
        new.bias.copy_(old.bias)
        if optimizer is not None:
            for name, parameter in old.named_parameters():
                state = optimizer.state.pop(parameter, {})
                optimizer.state[new.get_parameter(name)] = {
                    key: value[:, channels] if value.ndim == 4 else value for key, value in state.items()
                }
        adapters[index] = new
