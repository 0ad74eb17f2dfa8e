"""The enhancer in a folder or on the Hub, whichever of ours it is; and the networks of others that training needs."""

from pathlib import Path

import torch
from transformers import AutoModel, PreTrainedModel

from .enhancer import FaceEnhancer
from .gpen import GPENFaceEnhancer

ENHANCERS = {"FaceEnhancer": FaceEnhancer, "GPENFaceEnhancer": GPENFaceEnhancer}


def load_enhancer(name: str | Path, **kwargs) -> FaceEnhancer | GPENFaceEnhancer:
    """The enhancer of a folder or Hub repository, or of the pipeline that either holds.

    Args:
        name: folder or Hub name.
        kwargs: for `from_pretrained`.

    Raises:
        ValueError, OSError: with one line where there is none.
    """
    folder = Path(name)
    if folder.is_file():
        raise ValueError(f"{name} is a file; expected a folder. Make one with: hf-faceenh convert {name} FOLDER")
    if (folder / "enhancer" / "config.json").is_file():
        name = folder / "enhancer"
    elif folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"{name} holds no enhancer: there is no config.json in it.")
    try:
        kind = FaceEnhancer.load_config(name).get("_class_name")
    except OSError as error:
        raise OSError(f"There is no enhancer {name}, neither a folder nor on the Hub.") from error
    if kind == "FaceEnhancePipeline":  # a repository whose root config.json only lets the Hub count downloads
        kwargs["subfolder"] = "enhancer"
        kind = FaceEnhancer.load_config(name, subfolder="enhancer").get("_class_name")
    if kind not in ENHANCERS:
        raise ValueError(f"{name} holds a {kind or 'model of another kind'}; expected {' or '.join(ENHANCERS)}.")
    return ENHANCERS[kind].from_pretrained(name, **kwargs)


def load_transformers(option: str, name: str | None) -> PreTrainedModel | None:
    """The `transformers` model that a command line's `option` names, in float32; `None` for no name.

    Raises:
        ValueError: with one line where there is none.
    """
    if name is None:
        return None
    try:
        return AutoModel.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{option} {name} is no transformers model: {reason}") from error
