"""A line that says of a picture that it was enhanced, by what and with which settings."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def line(model: str | None, options: Mapping[str, Any]) -> str:
    """
    Args:
        model: name on the Hub, or folder, of which the last part is told; `None` for the bundled one.
        options: keyword arguments of the pipeline's call.

    Returns:
        for example "hf-faceenh 0.1.0 enhanced the faces: bundled model, upscale=2, strength=1.0".
    """
    named = f"model {public_name(model)}" if model else "bundled model"
    settings = [f"{name}={value}" for name, value in options.items() if value is not None]
    program = " ".join(filter(None, ("hf-faceenh", version())))
    return f"{program} enhanced the faces: {', '.join([named, *settings])}".replace(";", ",")


def public_name(name: str) -> str:
    """A name on the Hub as it is; of a path, the last part."""
    on_hub = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) and not Path(name).exists()
    return name if on_hub else Path(name).expanduser().resolve().name


def version() -> str | None:
    """Of this package; `None` if it is not installed."""
    from importlib import metadata  # takes as long as the rest of the command's start

    try:
        return metadata.version("hf-faceenh")
    except metadata.PackageNotFoundError:
        return None
