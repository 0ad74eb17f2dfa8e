"""Loading the pipeline, or the one model, that a command line names.

Whatever can be said of a name without the network is said before torch is imported.
"""

import contextlib
import gc
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hf_faceenh.catalogue import BY_NAME
from hf_faceenh.errors import explained, one_line
from hf_faceenh.fetching import fetch, is_published
from hf_faceenh.files import read_json_object, refuse_file

if TYPE_CHECKING:
    import torch

    from hf_faceenh.pipeline import FaceEnhancePipeline

# Which component of the pipeline a single model replaces.
ROLES = {
    "FaceEnhancer": "enhancer",
    "GPENFaceEnhancer": "enhancer",
    "RestoreFormerFaceEnhancer": "enhancer",
    "CodeFormerFaceEnhancer": "enhancer",
    "GFPGANFaceEnhancer": "enhancer",
    "FaceDetector": "detector",
    "SegformerForSemanticSegmentation": "parser",
    "SuperResolver": "super_resolver",
    "FaceRecognizer": "recognizer",
}
# Bundled enhancers beside the default one: name → folder in weights/.
VARIANTS = {"fast": "enhancer_fast", "vivid": "enhancer_vivid"}
INDEX = "model_index.json"  # which makes a folder a pipeline's
BACKENDS = ("torch", "onnx")  # what computes the networks


def is_variant(model: str | None) -> bool:
    """Whether a name is that of a bundled variant; a folder of that name comes first."""
    return model in VARIANTS and not Path(model).is_dir()


def check_model(model: str | None) -> None:
    """Refuses a name that cannot be a model's, as far as this machine alone can tell; `None` is the bundled one,
    `VARIANTS` are others of it, and the catalogue's are published ones.

    Raises:
        ValueError, OSError: with one line that says what is wrong and what to do.
    """
    if model is None or is_variant(model) or is_published(model):
        return
    folder = Path(model)
    refuse_file(model)
    if folder.is_dir():
        if not any((folder / name).is_file() for name in (INDEX, "config.json")):
            raise OSError(f"Could not load {model}: there is neither {INDEX} nor config.json in it.")
        return
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(model)
    except HFValidationError as error:
        raise OSError(f"There is no folder {model}, and the Hugging Face Hub has no such names.") from error


def check_pipeline(model: str | None) -> None:
    """As `check_model`; also refuses a folder whose one model has no place in a pipeline."""
    check_model(model)
    kind = single_class(model)
    if kind is not None and kind not in ROLES:
        raise ValueError(f"{model} holds a {kind}; expected a pipeline, or one of {', '.join(ROLES)}.")


def check_super_resolver(model: str | None) -> None:
    """Refuses what is neither a published super-resolver's name nor a folder with one.

    Raises:
        ValueError, OSError: with one line that says what is wrong and what to do.
    """
    if model is None:
        return
    check_model(model)
    role = BY_NAME[model].role if is_published(model) else ROLES.get(single_class(model))
    if role != "super_resolver":
        raise ValueError(f"{model} is no super-resolver. Name a folder with one, or one of: hf-faceenh models")


def check_backend(model: str | Path | None, backend: str, device: str = "auto", dtype: str = "float32") -> None:
    """Refuses what `backend` cannot do, as far as this machine alone can tell.

    Raises:
        ValueError, OSError: with one line that says what is wrong and what to do.
    """
    if backend not in BACKENDS:
        raise ValueError(f"The backend must be one of {', '.join(BACKENDS)}; got {backend!r}.")
    if backend == "torch":
        return
    if device not in ("auto", "cpu"):
        raise ValueError(f"The backend onnx computes on the CPU. Leave out --device {device}, or the backend.")
    if dtype != "float32":
        raise ValueError(f"The backend onnx takes and gives float32. Leave out --dtype {dtype}, or the backend.")
    check_installed("onnx", "ONNX", "onnxruntime")
    bundled = model is None or is_variant(model) or is_published(model)
    if bundled or (Path(model).is_dir() and not any(Path(model).glob("enhancer/*.onnx"))):
        raise OSError(
            f"{model or 'The bundled pipeline'} has no ONNX files. Make a folder that has, and name it as the model: "
            "hf-faceenh export DIR --onnx"
        )


def check_installed(extra: str, what: str, *modules: str) -> None:
    """
    Args:
        extra: of this package, that brings the modules.
        what: needs them.
        modules: by name.

    Raises:
        OSError: where one of the modules is not there.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise OSError(f'There is no {module}, needed for {what}: pip install "hf-faceenh[{extra}]"')


def single_class(model: str | None) -> str | None:
    """The class of a folder's one model; `None` if `model` is something else.

    Raises:
        OSError: for a damaged config.
    """
    if model is None or (Path(model) / INDEX).is_file() or not (Path(model) / "config.json").is_file():
        return None
    with explained(f"Could not load {model}", OSError, of=ValueError):
        config = read_json_object(Path(model) / "config.json")
    name = config.get("_class_name") or config.get("architectures") or None
    name = name[0] if isinstance(name, list) else name
    if not isinstance(name, str):
        raise OSError(f"Could not load {model}: its config.json names no class.")
    return name


def load_single(
    model: str | None, dtype: "torch.dtype | None" = None, accept_license: bool = False
) -> dict[str, "torch.nn.Module"]:
    """A folder's one model, or a published one, by its role in the pipeline (or by its class if it has none); `{}` if
    `model` is something else.

    Raises:
        ValueError, OSError: as `load_pipeline`.
    """
    check_model(model)
    if is_published(model):
        model = str(fetch(model, accept_license))
    name = single_class(model)
    if name is None:
        return {}
    import torch
    import transformers

    from hf_faceenh import models
    from hf_faceenh.models.soundness import check_foreign, check_model_folder

    with _loading(model):
        library, role = models if hasattr(models, name) else transformers, ROLES.get(name, name)
        if library is transformers:  # our own classes check their folders themselves
            check_model_folder(Path(model))
        loaded = getattr(library, name).from_pretrained(model, dtype=dtype or torch.float32)
        if library is transformers:
            check_foreign(role, loaded, Path(model))
        return {role: loaded}


def load_pipeline(
    model: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
    super_resolver: str | None = None,
    accept_license: bool = False,
    backend: str = "torch",
) -> "FaceEnhancePipeline":
    """The pipeline to enhance with.

    Args:
        model: a pipeline's folder or Hub id; or a folder that holds one model, as `convert` writes it, or the name of
            a published one, which then takes its place in the bundled pipeline; or one of `VARIANTS`. By default the
            bundled pipeline.
        device: "auto" (the best there is), "cuda", "mps" or "cpu".
        dtype: "float32", "float16" or "bfloat16".
        super_resolver: a folder that holds one, or the name of a published one, in place of the pipeline's own.
        accept_license: of published weights, see `fetching.fetch`.
        backend: "torch", or "onnx" for the model's ONNX files, on a CPU.

    Raises:
        ValueError, OSError: with one line that says what is wrong and what to do.
    """
    check_pipeline(model)
    check_super_resolver(super_resolver)
    check_backend(model, backend, device, dtype)
    _check_dtype(device, dtype)
    with _no_garbage_collection():
        import torch

        from hf_faceenh.pipeline import FaceEnhancePipeline
    from hf_faceenh.serialization import BUNDLED

    device = "cpu" if backend == "onnx" else _device(device)
    _check_dtype(device, dtype)
    number_type = getattr(torch, dtype)
    own = {"variant": model} if is_variant(model) else load_single(model, number_type, accept_license)
    source = None if own else model  # the bundled pipeline, with one model in its place
    own |= load_single(super_resolver, number_type, accept_license)
    with _loading(source or BUNDLED):
        return FaceEnhancePipeline.from_pretrained(source, dtype=number_type, backend=backend, **own).to(device)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Importing torch and diffusers makes millions of objects that stay: looking through them for garbage, again and
    again, takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _check_dtype(device: str, dtype: str) -> None:
    if (device, dtype) == ("cpu", "float16"):
        raise ValueError("A CPU does not compute well in float16. Use --dtype float32 or bfloat16, or a GPU.")


def _device(name: str) -> str:
    """The device, if this machine has it; for "auto" the best one it has."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(kind for kind in available if available[kind]) if name == "auto" else name
    if not available[name]:
        raise ValueError(f"PyTorch finds no device {name} on this machine. Use --device cpu or auto.")
    return name


@contextlib.contextmanager
def _loading(model: str | Path) -> Iterator[None]:
    """Makes one line of what `from_pretrained` raises: it documents nothing, and raises a dozen kinds."""
    from diffusers.utils.logging import disable_progress_bar
    from transformers.utils import logging as transformers_logging

    disable_progress_bar()  # of loading; the pipeline has a bar of its own
    transformers_logging.disable_progress_bar()
    try:
        yield
    except Exception as error:
        if Path(model).is_dir():
            said = one_line(error)
            raise OSError(said if said.startswith(str(model)) else f"Could not load {model}: {said}") from error
        reason = one_line(error.__cause__ or error, 200)
        raise OSError(f"There is no folder {model}, and the Hugging Face Hub did not give it: {reason}") from error
