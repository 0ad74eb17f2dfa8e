"""What a pipeline is made of, as the command line and model cards list it."""

from collections.abc import Mapping
from typing import Any

import torch

from hf_faceenh.enhancing import PARSER_SIZE
from hf_faceenh.models.costs import multiply_accumulates, parameter_count


def component_rows(components: Mapping[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """For each network its role, class, parameters, multiply-accumulates and licence."""
    return [
        (role, type(model).__name__, parameters(model), gmac(role, model), licence(model))
        for role, model in components.items()
        if isinstance(model, torch.nn.Module)
    ]


def gmac(role: str, model: torch.nn.Module) -> str:
    """Billions of multiply-accumulates per face or per megapixel, depending on the network's role."""
    if role in ("enhancer", "parser"):
        unit, side, share = "face", getattr(model.config, "sample_size", PARSER_SIZE), 1
    elif role == "recognizer":
        unit, side, share = "face", model.config.image_size, 1
    elif role in ("detector", "super_resolver"):
        unit, side, share = "megapixel", 1024, 1e6 / 1024**2
    else:
        return "-"
    return f"{share * multiply_accumulates(model, (1, 3, side, side)) / 1e9:.3g} per {unit}"


def parameters(model: torch.nn.Module) -> str:
    return f"{parameter_count(model) / 1e6:.3g} M"


def licence(model: torch.nn.Module) -> str:
    """As its config states it, without what would steer a terminal."""
    stated = str(getattr(model.config, "license", None) or "not stated")
    return "".join(character for character in stated if character.isprintable())
