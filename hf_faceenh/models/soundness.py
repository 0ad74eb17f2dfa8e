"""Weights that can be what they say: complete, finite numbers of a float kind, of sizes that a network here can have.

The libraries leave missing weights random, turn integers into floats and build whatever a config asks for: wrong
pictures, or none after minutes, and nobody is told.
"""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hf_faceenh.files import read_json_object

LARGEST = 4096  # no width, depth or side in a config here is larger
FLOATS = ("F64", "F32", "F16", "BF16")
COUNTERS = ("num_batches_tracked", "position_ids")  # what networks hold of integers
LONGEST_HEADER = 2**27  # bytes of a safetensors file


class SoundWeights:
    """For classes with `from_pretrained`, before those of the libraries: weights that it gives are sound.

    Raises:
        ValueError: for weights that are missing, of another kind, or not finite, and for a config out of bounds.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, output_loading_info: bool = False, **kwargs):
        name = pretrained_model_name_or_path
        if name is not None and Path(name).is_dir():
            check_model_folder(Path(name) / (kwargs.get("subfolder") or ""))
        model, report = super().from_pretrained(name, *args, output_loading_info=True, **kwargs)
        refuse_gaps(cls.__name__, name, report["missing_keys"])
        check_values(cls.__name__, model)
        return (model, report) if output_loading_info else model


def refuse_gaps(what: str, name: str | Path, missing: Collection[str]) -> None:
    """
    Raises:
        ValueError: where weights are missing, which the libraries would leave random or not there at all.
    """
    if missing:
        raise ValueError(f"{name} lacks weights of its {what}: {', '.join(sorted(missing)[:3])}, …")


def check_values(what: str, model: nn.Module) -> None:
    """
    Raises:
        ValueError: for a weight that is not a finite number: one is enough to make a picture black.
    """
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.is_meta and not value.sum(dtype=torch.float32).isfinite():
            raise ValueError(f"{name} of the {what} holds values that are not finite numbers; get its weights again.")


def check_result(picture: torch.Tensor) -> None:
    """
    Raises:
        ValueError: for a picture with a value that is not a finite number.
    """
    if not picture.sum(dtype=torch.float32).isfinite():
        raise ValueError(
            "The networks made values that are not finite numbers, so there is no result. Where they compute in "
            "float16, take float32 or bfloat16."
        )


def check_model_folder(folder: Path) -> None:
    """Checks the config and the weights' headers of a model's folder; nothing is loaded.

    Raises:
        ValueError: for numbers in the config that no network here has, and for weights that are not floats.
    """
    config = folder / "config.json"
    if config.is_file():
        check_config(folder, read_json_object(config))
    for file in sorted(folder.glob("*.safetensors")):
        for name, entry in _header(file).items():
            if name != "__metadata__" and entry["dtype"] not in FLOATS and not name.endswith(COUNTERS):
                raise ValueError(
                    f"{file}: {name} is of the kind {entry['dtype']}, expected one of {', '.join(FLOATS)}."
                )


def check_config(name: str | Path, config: Any, key: str = "its config") -> None:
    """
    Raises:
        ValueError: for an integer beyond `LARGEST`, wherever in the config.
    """
    if isinstance(config, Mapping):
        for entry, value in config.items():
            check_config(name, value, entry)
    elif isinstance(config, (list, tuple)):
        for value in config:
            check_config(name, value, key)
    elif isinstance(config, int) and abs(config) > LARGEST:
        raise ValueError(f"{name}: {key} is {config}; no network of this package goes beyond {LARGEST}.")


def check_foreign(what: str, model: nn.Module, folder: Path) -> None:
    """For a model of another library, whose class does not check itself what it loaded from `folder`.

    Raises:
        ValueError: for weights that are not finite, or missing, which `transformers` leaves random.
    """
    check_values(what, model)
    check_size(what, model, folder)


def check_size(what: str, model: nn.Module, folder: Path) -> None:
    """For a model of another library, which has renamed its weights while it loaded them: are there as many?

    Raises:
        ValueError: where a folder's safetensors files hold fewer values than the model has.
    """
    held: dict[str, int] = {}  # by variant, which may be divided into several files
    for file in folder.glob("*.safetensors"):
        shapes = [entry["shape"] for name, entry in _header(file).items() if name != "__metadata__"]
        variant = file.stem.split("-")[0]
        held[variant] = held.get(variant, 0) + sum(map(math.prod, shapes))
    expected = sum(value.numel() for value in model.state_dict().values())
    if held and max(held.values()) < expected:
        raise ValueError(f"{folder} lacks weights of its {what}: it holds {max(held.values())} of {expected} values.")


def _header(file: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors: JSON behind its length in 8 bytes."""
    with file.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        try:
            header = json.loads(content.read(length)) if length <= LONGEST_HEADER else None
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise ValueError(f"{file} is truncated or not a safetensors file; get it again.")
    return header
