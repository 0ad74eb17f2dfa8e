"""Where the shards go: a folder, or a repository on the Hugging Face Hub."""

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from hf_faceenh.files import written_whole
from hf_faceenh.hub import full_name, hub_errors

HUB = "hf://datasets/"
CONFLICTS = {409, 412, 429, 500, 502, 503, 504}  # the Hub's answers while another process commits, or it is busy
CONFLICT_WAITS = (1, 2, 4, 8, 16, 32)  # s


class Folder:
    """An output on this machine, or one that machines share.

    Args:
        path: is made if missing.
    """

    def __init__(self, path: Path):
        self.path = path
        self.staging = path / ".partial"  # hidden from `datasets`, and on the file system of its target

    def __str__(self) -> str:
        return str(self.path)

    def prepare(self) -> None:
        """Makes it if it is missing."""
        self.path.mkdir(parents=True, exist_ok=True)

    def is_foreign(self) -> bool:
        """Whether it holds something, but nothing of a run."""
        found = {entry.name for entry in self.path.iterdir()}
        return "options.json" not in found and any(not name.startswith(".") for name in found)

    def read(self, name: str) -> str | None:
        """The text of a file; `None` if there is none."""
        with contextlib.suppress(FileNotFoundError):
            return (self.path / name).read_text(encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        """A file, whole or not at all."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as partial:
            partial.write_text(text, encoding="utf-8")

    def progress(self) -> dict[str, dict]:
        """The records of all whole shards, by name."""
        records = {}
        for file in sorted((self.path / "progress").glob("*.json")):
            with contextlib.suppress(OSError, ValueError):  # removed by now, or damaged: the shard is made again
                record = json.loads(file.read_text(encoding="utf-8"))
                if record["data"] is None or (self.path / record["data"]).exists():
                    records[file.stem] = record
        return records

    def publish(self, shard: str, made: Path | None, record: dict) -> None:
        """Puts a shard in its place, then its record.

        Args:
            shard: name of the shard.
            made: its file or folder; `None` for a shard without pictures.
            record: with the place of the file or folder in the output as "data".
        """
        if made:
            for file in (
                made.iterdir() if made.is_dir() else [made]
            ):  # a power cut must not leave a record without its shard
                with open(file, "rb+") as opened:
                    os.fsync(opened.fileno())
            target = self.path / record["data"]
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():  # of a process that was killed before it wrote the record
                shutil.rmtree(target)
            os.replace(made, target)
        self.write(f"progress/{shard}.json", json.dumps(record) + "\n")


class Repository:
    """An output on the Hugging Face Hub: a dataset repository, made if missing. Its methods are those of `Folder`.

    Every shard is one commit, together with its record.
    """

    def __init__(self, repo_id: str, private: bool):
        self.repo_id, self.api = full_name(repo_id), HfApi()
        self.where = {"repo_id": self.repo_id, "repo_type": "dataset"}
        self._scratch = tempfile.TemporaryDirectory(prefix="hf-faceenh-")  # goes with this object
        self.staging, self.private = Path(self._scratch.name), private

    def __str__(self) -> str:
        return HUB + self.repo_id

    def prepare(self) -> None:
        with hub_errors(f"{self} cannot be written to"):
            self.api.create_repo(**self.where, private=self.private or None, exist_ok=True)

    def _files(self) -> set[str]:
        with hub_errors(f"{self} cannot be read"):
            return set(self.api.list_repo_files(**self.where))

    def is_foreign(self) -> bool:
        files = self._files()
        return "options.json" not in files and bool(files - {".gitattributes", "README.md"})

    def read(self, name: str) -> str | None:
        with hub_errors(f"{self} cannot be read"), contextlib.suppress(EntryNotFoundError):
            return Path(hf_hub_download(filename=name, **self.where)).read_text(encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        self._commit({name: text.encode()}, f"Write {name}")

    def progress(self) -> dict[str, dict]:
        files, records = self._files(), {}
        with hub_errors(f"{self} cannot be read"):
            snapshot = Path(snapshot_download(allow_patterns="progress/*.json", **self.where))
        for file in sorted((snapshot / "progress").glob("*.json")):
            record = json.loads(file.read_text(encoding="utf-8"))
            data = record["data"]
            if data is None or any(name == data or name.startswith(f"{data}/") for name in files):
                records[file.stem] = record
        return records

    def publish(self, shard: str, made: Path | None, record: dict) -> None:
        files: dict[str, bytes | Path] = {f"progress/{shard}.json": json.dumps(record).encode() + b"\n"}
        if made and made.is_dir():
            files |= {f"{record['data']}/{file.name}": file for file in made.iterdir()}
        elif made:
            files[record["data"]] = made
        self._commit(files, f"Add {shard}")

    def _commit(self, files: Mapping[str, bytes | Path], title: str) -> None:
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        with hub_errors(f"{self} cannot be written to"):
            for pause in (*CONFLICT_WAITS, None):
                try:
                    self.api.create_commit(operations=operations, commit_message=title, **self.where)
                    return
                except HfHubHTTPError as error:
                    if pause is None or error.response.status_code not in CONFLICTS:
                        raise
                time.sleep(pause)


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
