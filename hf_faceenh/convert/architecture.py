"""What a family of published checkpoints is, and how one of its state dicts becomes a model of ours."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import init_empty_weights
from diffusers.models.modeling_utils import ModelMixin
from transformers import PreTrainedModel

StateDict = dict[str, torch.Tensor]
Places = dict[str, str | torch.Tensor | None]


class ConversionError(ValueError):
    """The file is not a published checkpoint that we know, or the target cannot be written. One line says why."""


@dataclass(frozen=True)
class Architecture:
    """One kind of published checkpoint.

    Args:
        name: what users call it.
        signature: pattern that matches the beginning of some key, and of no key of another kind.
        build: makes our model from the state dict: of the sizes that the shapes show, with the licence in its config.
        places: says for every published key what becomes of it: the name of our parameter; the constant that it
            must hold, which we do not store; or `None` where we do not need it.
        unneeded: pattern that matches the beginning of the keys that may be there or not, and that nothing reads.
    """

    name: str
    signature: str
    build: Callable[[StateDict], ModelMixin | PreTrainedModel]
    places: Callable[[torch.nn.Module], Places]
    unneeded: str | None = None

    def recognizes(self, state: StateDict) -> bool:
        return any(re.match(self.signature, key) for key in state)

    def _leaves_out(self, key: str) -> bool:
        return self.unneeded is not None and re.match(self.unneeded, key) is not None

    def load(self, state: StateDict) -> ModelMixin | PreTrainedModel:
        """The model that `state` makes, in evaluation mode. Takes the tensors over without a copy where it can.

        Raises:
            ConversionError: unless each key has its place, each parameter its key, and all shapes fit.
        """
        try:
            with init_empty_weights():
                model = self.build(state)
        except ConversionError:
            raise
        except (ValueError, IndexError, ArithmeticError) as error:  # of the model, or of a tensor's dimensions
            raise ConversionError("its shapes make no such network") from error
        places = self.places(model)
        if missing := [key for key in places if key not in state]:
            raise ConversionError(f"keys are missing: {listed(missing)}")
        if left_over := [key for key in state if key not in places and not self._leaves_out(key)]:
            raise ConversionError(f"keys are left over: {listed(left_over)}")
        model.load_state_dict(_placed(state, places, model.state_dict()), strict=True, assign=True)
        return model.eval()


def _placed(state: StateDict, places: Places, ours: StateDict) -> StateDict:
    """The published tensors under our names, in the shapes and dtypes of `ours`."""
    placed = {}
    for key, place in places.items():
        tensor = state[key]
        if isinstance(place, torch.Tensor):
            if tensor.shape != place.shape or not torch.allclose(tensor.float(), place, atol=1e-4):
                raise ConversionError(f"{key} is not the constant that the network is defined with")
        elif place is not None:
            expected = ours[place]
            if 0 in tensor.shape:
                raise ConversionError(f"{key} has the shape {list(tensor.shape)}, which holds nothing")
            if not tensor.is_floating_point() and expected.is_floating_point():
                raise ConversionError(
                    f"{key} is of the kind {str(tensor.dtype).removeprefix('torch.')}, expected floats"
                )
            if not tensor.isfinite().all():
                raise ConversionError(f"{key} holds values that are not finite numbers; download the file again")
            if _without_ones(tensor) != _without_ones(expected):
                raise ConversionError(f"{key} has the shape {list(tensor.shape)}, expected {list(expected.shape)}")
            placed[place] = tensor.reshape(expected.shape).to(expected.dtype).contiguous()
    return placed


def _without_ones(tensor: torch.Tensor) -> list[int]:
    """The shape without sides of 1: published code has more of them, such as `[1, out, in, 3, 3]`."""
    return [side for side in tensor.shape if side != 1]


def listed(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


# For `build`: what the sizes of a network are


def shape_of(state: StateDict, key: str) -> tuple[int, ...]:
    if key not in state:
        raise ConversionError(f"the key {key} is missing")
    return tuple(state[key].shape)


def count_of(state: StateDict, pattern: str) -> int:
    """How many different numbers `pattern`'s group matches at the beginning of the keys."""
    return len({match[1] for match in map(re.compile(pattern).match, state) if match})
