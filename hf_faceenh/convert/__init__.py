"""Published checkpoints → our format: `convert(source, target)` writes a `from_pretrained` folder.

The kind of a checkpoint and all its hyper-parameters are read off its keys and shapes. Loading is strict: every key of
the file must have its place, and every parameter its key.

A family is one file here that ends with its `ARCHITECTURES` (see `architecture.Architecture`). To add one, write that
file and add it to `FAMILIES`.
"""

from pathlib import Path

from diffusers.models.modeling_utils import ModelMixin
from transformers import PreTrainedModel

from hf_faceenh.convert import (
    centerface,
    codeformer,
    dlib,
    gfpgan,
    gpen,
    mobilenet,
    real_esrgan,
    restoreformer,
    unsupported,
)
from hf_faceenh.convert.architecture import Architecture, ConversionError, StateDict, listed
from hf_faceenh.convert.reading import read_state_dict
from hf_faceenh.files import written_whole

FAMILIES = (gpen, gfpgan, codeformer, restoreformer, real_esrgan, mobilenet, centerface, dlib)
ARCHITECTURES: tuple[Architecture, ...] = tuple(kind for family in FAMILIES for kind in family.ARCHITECTURES)
PREFIXES = ("module.", "generator.", "vqvae.")  # under which training frameworks keep a network among others

__all__ = ["ConversionError", "convert", "load_published"]


def load_published(source: str | Path) -> ModelMixin | PreTrainedModel:
    """Opens a published checkpoint as one of our models, in float32 and evaluation mode.

    Args:
        source: a `.pth`, `.safetensors`, `.onnx` or `.dat` file of one of `ARCHITECTURES`: GPEN's generators and
            discriminators of every size, GFPGAN, CodeFormer, RestoreFormer and RestoreFormer++, Real-ESRGAN's RRDB
            (also ESRGAN's, of which the names are older) and compact networks, torchvision's MobileNetV2, CenterFace
            as ONNX, or dlib's face recognition ResNet in dlib's own format.

    Raises:
        ConversionError: for a file that is none of these, whole and complete.
    """
    source = Path(source)
    try:
        architecture, state = _recognized(read_state_dict(source))
        try:
            return architecture.load(state)
        except ConversionError as error:
            raise ConversionError(f"looks like {architecture.name}, but {error}") from error
    except ConversionError as error:
        raise ConversionError(f"{source}: {error}.") from error


def _recognized(state: StateDict) -> tuple[Architecture, StateDict]:
    """What a state dict is, and its part that is the network: all of it, or what is under one of `PREFIXES`."""
    parts = [{key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)} for prefix in PREFIXES]
    for part in (state, *parts):
        for architecture in ARCHITECTURES:
            if architecture.recognizes(part):
                return architecture, part
    known = ", ".join(architecture.name for architecture in ARCHITECTURES)
    if name := next(filter(None, map(unsupported.name_of, (state, *parts))), None):
        raise ConversionError(f"this is {name}, which is not supported; known are {known}")
    raise ConversionError(f"unknown network, with keys {listed(list(state)) or 'none'}; known are {known}")


def convert(source: str | Path, target: str | Path, weak: str | Path | None = None) -> Path:
    """Converts a published checkpoint into a folder for `from_pretrained`; its config notes the weights' licence.

    Args:
        source: as for `load_published`.
        target: the folder to make. It appears complete or not at all.
        weak: a second compact super-resolver, which denoises less (realesr-general-wdn-x4v3.pth beside
            realesr-general-x4v3.pth): the two become one that takes a wanted amount of denoising.

    Returns:
        `target`.

    Raises:
        ConversionError: if `target` exists, or as for `load_published`.
    """
    target = Path(target)
    if target.exists():
        raise ConversionError(f"{target} exists already; choose another target, or remove it first.")
    model = load_published(source)
    if weak is not None:
        model = real_esrgan.with_weak(model, load_published(weak))
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as partial:
        model.save_pretrained(partial)
    return target
