"""A pipeline as a model repository for the Hugging Face Hub.

`export` writes it, `push` uploads it, `push_enhancer` does both for a newly trained enhancer. `repository/` holds what
goes beside the components.
"""

import contextlib
import copy
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id
from torch import nn

from hf_faceenh.errors import one_line
from hf_faceenh.files import check_empty, written_whole
from hf_faceenh.loading import check_installed
from hf_faceenh.model_card import EXAMPLE, REPOSITORY, model_card
from hf_faceenh.models import load_enhancer
from hf_faceenh.onnx.networks import refuse_onnx
from hf_faceenh.pipeline import FaceEnhancePipeline

VARIANT = "fp16"
BINARY = "jpg onnx png safetensors".split()  # endings of what git keeps as large files
LEGAL = "LICENSE THIRD_PARTY_NOTICES.md".split()
BUSY = {409, 412, 429, 500, 502, 503, 504}  # the Hub's answers under load, or while another process commits


def export(
    folder: str | Path,
    pipeline: FaceEnhancePipeline,
    results: Mapping[str, Any] | None = None,
    *,
    repo_id: str | None = None,
    datasets: Sequence[str] = (),
    max_shard_size: str = "5GB",
    onnx: bool = False,
) -> Path:
    """Writes a complete model repository, which appears whole or not at all.

    Components in float32 and, as variant fp16, in half precision; model card, licence and notices; an example picture
    and what the pipeline makes of it; handler.py for Inference Endpoints.

    Args:
        folder: is made; an empty one may be there.
        pipeline: stays as it is.
        results: what training/evaluate.py measured, as in its results.json; those that come with the package for its
            own enhancer by default. The model card says so where there are none.
        repo_id: the name on the Hub, for the model card; the folder's by default.
        datasets: on what the enhancer was trained: names on the Hub, for the model card.
        max_shard_size: larger weights are divided into files of this size.
        onnx: also write the networks as ONNX, for `FaceEnhancePipeline.from_pretrained(folder, backend="onnx")`.

    Returns:
        the folder.

    Raises:
        ValueError: for results that are not those of the pipeline's enhancer, for a network that gives something else
            as ONNX, and for a pipeline that has its networks from there.
        OSError: where the folder holds something, or cannot be written.
    """
    folder = Path(folder).resolve()
    check_empty(folder)
    if onnx:
        check_installed("onnx", "ONNX", "onnx", "onnxruntime")
    refuse_onnx(pipeline.components)
    single = FaceEnhancePipeline(**dict(_with_dtype(pipeline.components, torch.float32)))
    card = model_card(single, results, repo_id or folder.name, datasets, onnx)
    folder.parent.mkdir(parents=True, exist_ok=True)
    halves = tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent)
    with written_whole(folder) as whole, halves as half:
        single.save_pretrained(whole, max_shard_size=max_shard_size)
        for name, model in _with_dtype(single.components, torch.float16):
            if isinstance(model, nn.Module):
                model.save_pretrained(Path(half) / name, variant=VARIANT, max_shard_size=max_shard_size)
                for file in (Path(half) / name).glob(f"*.{VARIANT}*"):
                    file.rename(whole / name / file.name)
                _forget_origin(whole / name / "config.json")
        if onnx:
            from hf_faceenh.onnx.exporting import write_onnx  # imports onnx, of an extra

            write_onnx(single.components, whole)
        _add_files(whole)
        if single.detector is not None:
            _enhance_example(whole, single)
        card.save(whole / "README.md")
        if folder.exists():
            folder.rmdir()  # only if it is still empty
    return folder


def _with_dtype(components: Mapping[str, Any], dtype: torch.dtype) -> Iterator[tuple[str, Any]]:
    """The components, networks of another dtype as copies."""
    for name, component in components.items():
        other = isinstance(component, nn.Module) and component.dtype != dtype
        yield name, copy.deepcopy(component).to(dtype) if other else component


def _forget_origin(config: Path) -> None:
    """Takes the path of this machine, from which a component was loaded, out of its config."""
    values = json.loads(config.read_text())
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def _add_files(folder: Path) -> None:
    """What is the same in every repository."""
    shutil.copy(REPOSITORY / "handler.py", folder)
    (folder / "requirements.txt").write_text("hf-faceenh\n")  # which an Inference Endpoint installs
    # By this file the Hub counts downloads.
    (folder / "config.json").write_text('{\n  "_class_name": "FaceEnhancePipeline"\n}\n')
    attributes = [f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in BINARY]
    (folder / ".gitattributes").write_text("".join(attributes))
    for name in LEGAL:
        text = _legal(name).replace("hf_faceenh/weights/", "").replace("hf_faceenh/repository/", "")
        (folder / name).write_text(text, encoding="utf-8")


def _legal(name: str) -> str:
    """A licence file: of the installed package, or of the checkout that is run without being installed."""
    try:
        text = metadata.distribution("hf-faceenh").read_text(f"licenses/{name}")
    except metadata.PackageNotFoundError:
        text = None
    return text or (Path(__file__).parents[1] / name).read_text(encoding="utf-8")


def _enhance_example(folder: Path, pipeline: FaceEnhancePipeline) -> None:
    """The example picture, and beside it what the pipeline makes of it."""
    source = folder / EXAMPLE
    source.parent.mkdir()
    shutil.copy(REPOSITORY / EXAMPLE, source)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline.image_processor.load(source)
    result = pipeline(picture).images[0]
    pipeline.image_processor.save(result, source.with_stem(f"{source.stem}_enhanced"), picture.info)


def full_name(repo_id: str, token: str | None = None) -> str:
    """A repository's name with that of the account, where it is not given.

    Raises:
        ValueError: for a name that the Hub does not allow.
        OSError: with one line where the account cannot be told.
    """
    validate_repo_id(repo_id)
    if "/" in repo_id:
        return repo_id
    with hub_errors(f"{repo_id}: the Hub does not tell whose it would be; name it as ACCOUNT/{repo_id}"):
        return f"{HfApi(token=token).whoami()['name']}/{repo_id}"


@contextlib.contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Makes one line of what the Hub's libraries raise, of a dozen kinds; where it may be well again in a moment, a
    `ConnectionError`."""
    try:
        yield
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        remedy = " Log in with `hf auth login`, as an account that may write there." if status in (401, 403) else ""
        kind = ConnectionError if status in BUSY else OSError
        raise kind(f"{what}: {one_line(error)}{remedy}") from error


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str = "Upload FaceEnhancePipeline",
) -> str:
    """Uploads what `export` wrote to a model repository on the Hub, which is made if missing.

    Weights that the repository held before and the folder does not are removed with the same commit: a mixture of two
    exports would not load.

    Args:
        folder: of `export`.
        repo_id: "name" or "organisation/name".
        private: of a repository that is made; the account's or organisation's custom by default.
        revision: the branch to upload to, made if missing; "main" by default.
        token: of the account; that of `hf auth login` by default.
        commit_message: title of the commit.

    Returns:
        the commit's URL.

    Raises:
        ValueError: for a name that the Hub does not allow, or a folder without a pipeline.
        OSError: with one line where the Hub refuses or cannot be reached.
    """
    validate_repo_id(repo_id)
    if not (Path(folder) / "model_index.json").is_file():
        raise ValueError(f"{folder} holds no pipeline. Make one with: hf-faceenh export {folder}")
    api = HfApi(token=token)
    with hub_errors(f"{folder} could not be pushed to {repo_id}"):
        name = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        return api.upload_folder(
            repo_id=name,
            folder_path=folder,
            revision=revision,
            commit_message=commit_message,
            delete_patterns=["*.onnx", "*.safetensors", "*.safetensors.index*.json"],
        ).commit_url


def push_enhancer(
    enhancer_folder: str | Path,
    repo_id: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    datasets: Sequence[str] = (),
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Pushes the package's own pipeline with a newly trained enhancer in its place.

    Args:
        enhancer_folder: of the enhancer, as its `save_pretrained` wrote it.
        repo_id: see `push`, as for `private`, `revision` and `token`.
        rows: its figures, as evaluate.py writes them to "rows" of results.json; empty if none were measured.
        datasets: on what it was trained: names on the Hub. A folder of this machine is not named in the model card.

    Returns:
        the commit's URL.

    Raises:
        ValueError, OSError: as `export` and `push`.
    """
    repo_id = full_name(repo_id, token)
    enhancer = load_enhancer(enhancer_folder, dtype=torch.float32)
    pipeline = FaceEnhancePipeline.from_pretrained(enhancer=enhancer)
    results = {"rows": list(rows)} if rows else None
    named = [name for name in datasets if not Path(name).exists()]
    with tempfile.TemporaryDirectory() as scratch:
        folder = export(Path(scratch) / "model", pipeline, results, repo_id=repo_id, datasets=named)
        return push(folder, repo_id, private=private, revision=revision, token=token)
