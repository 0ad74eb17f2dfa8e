"""Networks by name: the enhancer in a folder or on the Hub, whichever of ours it is, and the `transformers` models
that training needs. Whatever is wrong with a name, or with what it names, becomes one line here."""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

import torch
from diffusers.models.modeling_utils import ModelMixin
from transformers import AutoModel, PreTrainedModel

from hf_faceenh.errors import one_line
from hf_faceenh.fetching import fetch, is_published
from hf_faceenh.files import read_json_object, refuse_file
from hf_faceenh.models.codeformer import CodeFormerFaceEnhancer
from hf_faceenh.models.enhancer import FaceEnhancer
from hf_faceenh.models.gfpgan import GFPGANFaceEnhancer
from hf_faceenh.models.gpen import GPENFaceEnhancer
from hf_faceenh.models.restoreformer import RestoreFormerFaceEnhancer

ENHANCERS = {
    kind.__name__: kind
    for kind in (
        FaceEnhancer, GPENFaceEnhancer, GFPGANFaceEnhancer, CodeFormerFaceEnhancer, RestoreFormerFaceEnhancer,
    )
}  # fmt: skip


def load_enhancer(name: str | Path, **kwargs) -> ModelMixin:
    """The enhancer of a folder or Hub repository, or of the pipeline in it; or a published one.

    Args:
        name: folder or Hub name, or one that `hf-faceenh models` lists.
        kwargs: for `from_pretrained`.

    Raises:
        ValueError, OSError: in one line, where there is none or it is not complete.
    """
    refuse_file(name)
    name = fetch(name) if is_published(name) else name
    folder = Path(name)
    if (folder / "enhancer" / "config.json").is_file():
        name = folder / "enhancer"
    elif folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"{name} holds no enhancer: there is no config.json in it.")
    with loading("enhancer", name):
        if Path(name).is_dir():
            read_json_object(Path(name) / "config.json")  # of what else it may hold diffusers says nothing useful
        kind = FaceEnhancer.load_config(name).get("_class_name")
        if kind == "FaceEnhancePipeline":  # a repository whose root config.json only lets the Hub count downloads
            kwargs["subfolder"] = "enhancer"
            kind = FaceEnhancer.load_config(name, subfolder="enhancer").get("_class_name")
    if not isinstance(kind, str) or kind not in ENHANCERS:
        raise ValueError(f"{name} holds a {kind or 'model of another kind'}; expected {' or '.join(ENHANCERS)}.")
    with loading("enhancer", name):
        return ENHANCERS[kind].from_pretrained(name, **kwargs)


def load_transformers(option: str, name: str | Path | None) -> PreTrainedModel | None:
    """The `transformers` model that a command line's `option` names, in float32; `None` for no name.

    Weights that the folder lacks are random, as with `transformers`: of a published classifier they are often parts
    that its features do without.

    Raises:
        ValueError, OSError: in one line, where there is none.
    """
    if name is None:
        return None
    what = option.removeprefix("--").replace("_", " ")
    model, _ = read_transformers(what, name, unreadable=f"{option} {name} is no transformers model")
    return model


def read_transformers(what: str, name: str | Path, unreadable: str) -> tuple[PreTrainedModel, Collection[str]]:
    """A `transformers` model in float32, and the names of the weights that its folder lacks.

    Args:
        what: what the model is, for messages.
        name: folder or Hub name.
        unreadable: the beginning of the message about a folder that holds something else.

    Raises:
        ValueError, OSError: in one line, where there is none.
    """
    refuse_file(name)
    with loading(what, name, unreadable):
        model, report = AutoModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    return model, report["missing_keys"]


@contextlib.contextmanager
def loading(what: str, name: str | Path, unreadable: str | None = None) -> Iterator[None]:
    """Turns what the libraries raise into one line: an OSError where `name` is not there, else a ValueError."""
    try:
        yield
    except Exception as error:  # diffusers and transformers document none, and raise a dozen kinds
        reason = one_line(error, 200)
        if reason.startswith(str(name)):  # it says what is wrong with it: see `soundness`
            raise ValueError(reason) from error
        if not Path(name).is_dir():
            raise OSError(f"There is no {what} {name}, neither a folder nor on the Hub: {reason}") from error
        raise ValueError(f"{unreadable or f'{name} holds no {what} that can be loaded'}: {reason}") from error
