"""The components of a pipeline's folder or Hub repository, its networks from ONNX files."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download

from hf_faceenh.loading import INDEX
from hf_faceenh.onnx.graphs import VARIANTS, file_name
from hf_faceenh.onnx.networks import KINDS, load_network
from hf_faceenh.pictures import FaceImageProcessor

HUB = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")  # diffusers' options of it


def load_components(
    name: str | Path, variant: str | None = None, dtype: torch.dtype = torch.float32, **options
) -> dict[str, Any]:
    """The arguments of `FaceEnhancePipeline`.

    Args:
        name: folder or Hub repository.
        variant: "fp16" takes the files in half precision where there are some.
        dtype: only float32, what goes in and comes out.
        options: components that take the place of the folder's, and where the Hub is concerned, those of diffusers.

    Raises:
        ValueError: for an option that makes no sense here.
        OSError: where there are no ONNX files.
    """
    if dtype != torch.float32:
        raise ValueError(f'backend="onnx" takes and gives float32; got {dtype}. Leave dtype out, or the backend.')
    if variant not in VARIANTS:
        raise ValueError(f'The variants of backend="onnx" are None and "fp16"; got {variant!r}.')
    hub = {option: options.pop(option) for option in HUB if option in options}
    if unknown := options.keys() - {*KINDS, "image_processor"}:
        raise ValueError(f'backend="onnx" has no option {min(unknown)}. Leave it out, or the backend.')
    folder = Path(name)
    if not folder.is_dir():
        wanted = [INDEX, "*/*config.json", f"*/{file_name('model*', None)}"]
        others = [f"*/{file_name('model*', other)}" for other in VARIANTS if other and other != variant]
        folder = Path(snapshot_download(str(name), allow_patterns=wanted, ignore_patterns=others, **hub))
    components = {
        role: load_network(folder, role, variant) for role in KINDS if (folder / role).is_dir() and role not in options
    }
    if (folder / "image_processor").is_dir():
        components["image_processor"] = FaceImageProcessor.from_pretrained(folder / "image_processor")
    return components | options
