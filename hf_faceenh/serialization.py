"""A saved pipeline: how plain diffusers finds it, and how ours reads it without running its code."""

import json
from pathlib import Path
from typing import Any

import torch

from hf_faceenh.fetching import is_published
from hf_faceenh.loading import VARIANTS, check_backend, load_single
from hf_faceenh.models import FaceDetector, FaceEnhancer, FaceRecognizer, SuperResolver
from hf_faceenh.models.auto import ENHANCERS
from hf_faceenh.models.soundness import check_foreign, check_model_folder
from hf_faceenh.onnx.loading import load_components
from hf_faceenh.onnx.networks import refuse_onnx
from hf_faceenh.pictures import FaceImageProcessor

BUNDLED = Path(__file__).parent / "weights"
PARSER = "parser"  # the one component whose class is not ours, so that it does not check its weights itself
# Our components and the modules that they live in today.
OURS = {
    kind.__name__: kind.__module__
    for kind in (*ENHANCERS.values(), FaceDetector, SuperResolver, FaceRecognizer, FaceImageProcessor)
}
# What plain diffusers runs, with `trust_remote_code=True`, for the pipeline and for each of our components.
MODULE = """\
try:
    from hf_faceenh import {name}  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(f"This model needs the package hf-faceenh ({{error}}): pip install hf-faceenh") from None
"""


class SavedPipelineMixin:
    """Saving and loading of a `DiffusionPipeline` whose class and components diffusers does not know.

    A saved folder names modules of its own, pipeline.py for the class and one for each of our components: with these
    `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)` of plain diffusers loads it. Our own class
    knows these classes by their names, whatever module the folder says they are from, and needs no code of the folder.
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path | None = None, **kwargs):
        """As in diffusers; without a name, the bundled pipeline, of which `variant` may be one of `VARIANTS`. Float32
        unless `dtype` says otherwise.

        The name of published weights, such as "gfpgan-1.4", gives the bundled pipeline with these. They are fetched
        the first time, and `accept_license` accepts their licence: see `fetching.fetch`. A component may be such a
        name too: `super_resolver="realesrgan-x4plus"`.

        `backend="onnx"` takes the ONNX files that `hf-faceenh export DIR --onnx` wrote, and computes them through
        onnxruntime, on a CPU; `variant="fp16"` those in half precision. Components that are passed stay as they are.

        Raises:
            ValueError: where the bundled pipeline has no such variant, and for an option that the backend has not.
            OSError: where there is no onnxruntime, or no ONNX file.
            ValueError: for weights that are not sound (`models.soundness`).
            ValueError, OSError: as `fetching.fetch`.
        """
        if not {"torch_dtype", "dtype"} & kwargs.keys():
            kwargs["dtype"] = torch.float32
        dtype, accepted = kwargs.get("dtype", kwargs.get("torch_dtype")), kwargs.pop("accept_license", False)
        name, backend = pretrained_model_name_or_path, kwargs.pop("backend", "torch")
        check_backend(name, backend)
        components = [key for key in ("enhancer", "super_resolver") if is_published(kwargs.get(key))]
        for model in filter(is_published, [name, *map(kwargs.pop, components)]):
            kwargs |= load_single(model, dtype, accepted)
        if is_published(name):
            name = None
        if backend == "onnx":
            kwargs.pop("torch_dtype", None)
            return cls(**load_components(name, **kwargs | {"dtype": dtype}))
        if name is None and (variant := kwargs.pop("variant", None)) is not None:
            if variant not in VARIANTS:
                raise ValueError(f"The bundled pipeline has the variants {', '.join(VARIANTS)}; got {variant!r}.")
            kwargs.setdefault("enhancer", FaceEnhancer.from_pretrained(BUNDLED / VARIANTS[variant], dtype=dtype))
        if Path(name or BUNDLED).is_dir():
            check_model_folder(Path(name or BUNDLED, PARSER))
        loaded = super().from_pretrained(name or BUNDLED, **kwargs)
        _check_parser(loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded

    @classmethod
    def download(cls, *args, **kwargs) -> str:
        """As in diffusers; the parser that came is checked before anything is built of it, as our own classes do."""
        folder = super().download(*args, **kwargs)
        check_model_folder(Path(folder, PARSER))
        return folder

    def save_pretrained(self, save_directory: str | Path, **kwargs) -> None:
        """As in diffusers.

        Raises:
            ValueError: for a pipeline of ONNX files.
        """
        refuse_onnx(self.components)
        super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def _dict_from_json_file(cls, json_file: str | Path) -> dict[str, Any]:
        # diffusers reads the index with this, a private hook, before it downloads from the Hub. It would look in the
        # repository for the module of every component that is not its own; a component without one it just downloads.
        index = super()._dict_from_json_file(json_file)
        if isinstance(index.get("_class_name"), list):
            index["_class_name"] = index["_class_name"][1]
        return index | {name: [None, value[1]] for name, value in index.items() if _is_ours(name, value)}

    @classmethod
    def load_config(cls, *args, **kwargs):
        """As in diffusers; our components are those of this package."""
        loaded = super().load_config(*args, **kwargs)
        index = loaded[0] if isinstance(loaded, tuple) else loaded
        index.update({name: [OURS[value[1]], value[1]] for name, value in index.items() if _is_ours(name, value)})
        return loaded

    def save_config(self, save_directory: str | Path, **kwargs) -> None:
        """Also writes the modules with which plain diffusers finds this class and those of the components."""
        super().save_config(save_directory, **kwargs)
        folder = Path(save_directory)
        index = json.loads((folder / self.config_name).read_text())
        index["_class_name"] = ["pipeline", type(self).__name__]
        (folder / "pipeline.py").write_text(MODULE.format(name=type(self).__name__))
        for name, value in index.items():
            if _is_ours(name, value):
                index[name] = [name, value[1]]
                (folder / name).mkdir(exist_ok=True)
                (folder / name / f"{name}.py").write_text(MODULE.format(name=value[1]))
        (folder / self.config_name).write_text(json.dumps(index, indent=2) + "\n")


def _check_parser(pipeline: Any) -> None:
    parser = getattr(pipeline, PARSER, None)
    if isinstance(parser, torch.nn.Module):
        check_foreign(PARSER, parser, Path(parser.name_or_path))


def _is_ours(name: str, value: Any) -> bool:
    """Whether an entry of an index, component → [module, class], is one of our components: by its class, from a module
    of this package (today's or an earlier version's) or from the folder's own."""
    if not isinstance(value, (list, tuple)) or len(value) != 2 or value[1] not in OURS:
        return False
    return value[0] in (None, name) or value[0].partition(".")[0] == __package__
