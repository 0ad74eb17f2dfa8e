"""Where the shards go: a folder, or a repository on the Hugging Face Hub."""

import contextlib
import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError

from hf_faceenh.batch.process import patiently
from hf_faceenh.files import remove, written_whole
from hf_faceenh.hub import full_name, hub_errors

HUB = "hf://datasets/"


@contextlib.contextmanager
def _locked(file: Path, **options: Any) -> Iterator[None]:
    """Holds a lock, which the system gives up when the process ends, however it ends. Removes its file in the end, and
    the folder where nobody else has something in it."""
    lock = FileLock(file, **options)
    while not lock.is_locked:
        try:
            lock.acquire()
        except (FileNotFoundError, FileExistsError):  # another process has just removed the folder
            if file.parent.is_file():
                raise
    try:
        yield
    finally:
        remove(file)  # while it is held: who waits for it makes another
        lock.release()
        with contextlib.suppress(OSError):
            file.parent.rmdir()


class Folder:
    """An output on this machine, or one that machines share.

    Args:
        path: is made if missing.
    """

    def __init__(self, path: Path):
        self.path = path
        self._partial = path / ".partial"  # hidden from `datasets`, and on the file system of its target

    def __str__(self) -> str:
        return str(self.path)

    def prepare(self) -> list[str]:
        """Makes it if it is missing. Returns the names of the files and folders in it; of a repository, the paths of
        all files."""
        self.path.mkdir(parents=True, exist_ok=True)
        return [entry.name for entry in self.path.iterdir()]

    def read(self, name: str) -> str | None:
        """The text of a file; `None` if there is none."""
        with contextlib.suppress(FileNotFoundError):
            return (self.path / name).read_text(encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        """A file, whole or not at all."""
        with written_whole(self.path / name) as partial:
            partial.write_text(text, encoding="utf-8")

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder of this process's own to make shards in. Those that killed processes have left, whose locks nobody
        holds any more, are removed; those of other processes stay."""
        own = self._partial / uuid.uuid4().hex
        with _locked(own.with_suffix(".lock")):
            for name in {entry.stem for entry in self._partial.iterdir()} - {own.name}:
                with contextlib.suppress(OSError), _locked(self._partial / f"{name}.lock", timeout=0):
                    remove(self._partial / name)
            own.mkdir()
            try:
                yield own
            finally:
                remove(own)

    def record(self, shard: str) -> dict | None:
        """What is noted of a whole shard; `None` if it is missing, or its record is damaged."""
        record = _parsed(self.read(f"progress/{shard}.json"))
        return record if record and (self.path / (record["data"] or "")).exists() else None

    def progress(self) -> dict[str, dict]:
        """The records of all whole shards, by name."""
        names = sorted(file.stem for file in (self.path / "progress").glob("*.json"))
        return {name: record for name in names if (record := self.record(name)) is not None}

    def publish(self, shard: str, made: Path | None, record: dict) -> bool:
        """Puts a shard in its place, then its record, one process after the other. A shard that is whole already
        stays, unless it lacks more pictures.

        Args:
            shard: name of the shard.
            made: its file or folder; `None` for a shard without pictures.
            record: with the place of the file or folder in the output as "data".

        Returns:
            whether it was put there.
        """
        for file in _files(made):  # a power cut must not leave a record without its shard
            with open(file, "rb+") as opened:
                os.fsync(opened.fileno())
        with _locked(self._partial / "publishing.lock"):
            if not is_better(record, self.record(shard)):
                return False
            for name in ("data", "progress"):
                (self.path / name).mkdir(exist_ok=True)
            with written_whole(self.path / "progress" / f"{shard}.json") as noted:
                noted.write_text(json.dumps(record) + "\n")  # a full disk is met before anything is moved
                # Also what a process has left that was killed before it could note its shard.
                for former in (f"progress/{shard}.json", f"data/{shard}", f"data/{shard}.parquet"):
                    remove(self.path / former)
                if made:
                    os.replace(made, self.path / record["data"])
        return True


class Repository:
    """An output on the Hugging Face Hub: a dataset repository, made if missing. Its methods are those of `Folder`.

    Every shard is one commit, together with its record.
    """

    def __init__(self, repo_id: str, private: bool):
        self.repo_id, self.api = full_name(repo_id), HfApi()
        self.where = {"repo_id": self.repo_id, "repo_type": "dataset"}
        self.private = private

    def __str__(self) -> str:
        return HUB + self.repo_id

    def prepare(self) -> list[str]:
        with hub_errors(f"{self} cannot be written to"):
            self.api.create_repo(**self.where, private=self.private or None, exist_ok=True)
            return self.api.list_repo_files(**self.where)

    def read(self, name: str) -> str | None:
        with hub_errors(f"{self} cannot be read"), contextlib.suppress(EntryNotFoundError):
            return Path(hf_hub_download(filename=name, **self.where)).read_text(encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        patiently(self._commit, f"Write {name}", {name: text.encode()})

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="hf-faceenh-") as folder:
            yield Path(folder)

    def record(self, shard: str) -> dict | None:
        return _parsed(self.read(f"progress/{shard}.json"))

    def progress(self) -> dict[str, dict]:
        with hub_errors(f"{self} cannot be read"):
            snapshot = Path(snapshot_download(allow_patterns="progress/*.json", **self.where))
        files = sorted((snapshot / "progress").glob("*.json"))
        return {file.stem: _parsed(file.read_text(encoding="utf-8")) for file in files}

    def publish(self, shard: str, made: Path | None, record: dict) -> bool:
        if not is_better(record, self.record(shard)):
            return False
        files: dict[str, bytes | Path] = {f"progress/{shard}.json": json.dumps(record).encode() + b"\n"}
        files |= {f"data/{file.relative_to(made.parent).as_posix()}": file for file in _files(made)}
        self._commit(f"Add {shard}", files)
        return True

    def _commit(self, title: str, files: Mapping[str, bytes | Path]) -> None:
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        with hub_errors(f"{self} cannot be written to"):
            self.api.create_commit(operations=operations, commit_message=title, **self.where)


def _parsed(record: str | None) -> dict | None:
    with contextlib.suppress(ValueError):
        return None if record is None else json.loads(record)


def is_better(record: dict, former: dict | None) -> bool:
    """Whether a shard is to be published where there may be one: two runs may make the same, and a later one may
    succeed with pictures that had failed."""
    return former is None or len(record["failed"]) < len(former["failed"])


def _files(made: Path | None) -> list[Path]:
    """What a shard consists of."""
    return [] if made is None else list(made.iterdir()) if made.is_dir() else [made]


def open_output(name: str, private: bool) -> Folder | Repository:
    """
    Raises:
        ValueError: where it is not clear whether a folder or a repository is meant.
        OSError: where the Hub refuses or cannot be reached.
    """
    if name.startswith(HUB):
        return Repository(name.removeprefix(HUB).rstrip("/"), private)
    if "://" in name:
        raise ValueError(f"The output {name} is neither a folder nor {HUB}ACCOUNT/NAME. Choose one of these.")
    path = Path(name).expanduser()
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not path.parent.exists():
        raise ValueError(f"The output {name} may be a folder or a repository. Write ./{name} or {HUB}{name}.")
    if private:
        raise ValueError(f"--private is for a repository, but the output {name} is a folder.")
    if path.exists() and not path.is_dir():
        raise ValueError(f"The output {name} exists and is no folder. Choose another.")
    return Folder(path.resolve())
