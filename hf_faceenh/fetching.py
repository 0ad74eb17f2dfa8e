"""Published weights by name: the authors' file, downloaded once, checked, converted, and kept for all time after."""

import logging
import os
import sys
import tempfile
from pathlib import Path

from hf_faceenh.catalogue import BY_NAME, Published, Source
from hf_faceenh.errors import explained, one_line
from hf_faceenh.files import remove, why_unreadable

ACCEPTED = "HF_FACEENH_ACCEPT_LICENSE"  # environment variable of servers: names of models, or "all"
TIMEOUT = 30  # seconds without an answer


def is_published(model: object) -> bool:
    """Whether a name is one of the catalogue's; a folder of that name comes first."""
    return isinstance(model, str) and model in BY_NAME and not Path(model).is_dir()


def home() -> Path:
    """The folder of the converted weights, in `HF_HOME`."""
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "hf_faceenh"


def folder_of(published: Published) -> Path:
    """Where converted weights are, or would be."""
    return home() / published.name


def is_here(published: Published) -> bool:
    return (folder_of(published) / "config.json").is_file()


def fetch(name: str, accept_license: bool = False, file: str | os.PathLike | None = None) -> Path:
    """The folder, for `from_pretrained`, of published weights; they are downloaded and converted if they aren't there.

    Two processes may do so at once: the second waits for the first. Either whole weights are there at the end, or
    none.

    Args:
        name: one of the catalogue's.
        accept_license: that you accept the licence of weights that are not for any use; `HF_FACEENH_ACCEPT_LICENSE`
            may hold their names, or "all", instead. What is there was accepted before.
        file: the published file, if you have it: it is taken, and nothing is downloaded.

    Raises:
        ValueError: with one line: for an unknown name, a licence that was not accepted, a file that cannot be
            downloaded, and for one that is not what was published.
        OSError: where it cannot be downloaded, or written.
    """
    if name not in BY_NAME:
        raise ValueError(f"There is no model {name}. The names are listed by: hf-faceenh models")
    published = BY_NAME[name]
    target = folder_of(published)
    if is_here(published):
        return target
    _check_license(published, accept_license)
    _check_source(published, file)
    from filelock import FileLock

    with explained(f"{name} could not be fetched", OSError, OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{name}.lock"):
            for killed in target.parent.glob(f".{name}.*/"):  # downloads that another process did not end
                remove(killed)
            if not is_here(published):
                _convert(published, target, file)
    return target


def _check_license(published: Published, accepted: bool) -> None:
    by_environment = set(os.environ.get(ACCEPTED, "").replace(",", " ").split())
    if not (published.commercial or accepted or {published.name, "all"} & by_environment):
        raise ValueError(
            f"The licence of {published.name} is {published.license}: see {published.page}. If you accept it, say so "
            f"once: --accept-license, in Python accept_license=True, on a server {ACCEPTED}={published.name}"
        )


def _check_source(published: Published, file: str | os.PathLike | None) -> None:
    if file is not None:
        if reason := why_unreadable(Path(file)):
            raise ValueError(f"{file}: {reason}.")
    elif not published.is_downloadable:
        raise ValueError(
            f"{published.name} is not downloaded, because no checksum of it is known for certain. Get it from "
            f"{published.source.url}, then: hf-faceenh models get {published.name} --file FILE"
        )


def _convert(published: Published, target: Path, file: str | os.PathLike | None) -> None:
    from hf_faceenh.convert import convert

    if file is not None:
        if published.source.sha256:
            _check_hash(Path(file), published)
        convert(file, target)
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{published.name}.") as folder:
        files = [_download(source, Path(folder), published.name) for source in published.sources]
        convert(*files[:1], target, *files[1:])


def _check_hash(file: Path, published: Published) -> None:
    import pooch

    found = pooch.file_hash(str(file))  # SHA-256
    if found != published.source.sha256:
        raise ValueError(
            f"{file} is not the published {published.name}: its SHA-256 is {found}, expected "
            f"{published.source.sha256}. To use it all the same: hf-faceenh convert {file} FOLDER"
        )


def _download(source: Source, folder: Path, name: str) -> Path:
    """The file, whole and with the right hash."""
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)
    file = source.url.rpartition("/")[2]
    try:
        return Path(pooch.retrieve(source.url, f"sha256:{source.sha256}", file, folder, downloader=downloader))
    except requests.HTTPError as error:
        status = error.response.status_code
        raise OSError(
            f"{source.url} answers {status}. If the file has moved, get it from there and give it: "
            f"hf-faceenh models get {name} --file FILE"
        ) from error
    except requests.RequestException as error:
        raise OSError(f"{source.url} did not come through: {one_line(error, 200)}. Try again.") from error
    except ValueError as error:  # the hash
        raise ValueError(
            f"What came from {source.url} is not the published file: its SHA-256 is another. Try again."
        ) from error
