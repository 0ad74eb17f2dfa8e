"""Checkpoints that are whole or not there, and the newest that can be trusted."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError

from hf_faceenh.errors import one_line

MANIFEST = "manifest.json"  # the checksums; written last, so that a folder that has it was complete
PARTIAL = ".partial"
# What a full disk raises: safetensors has an error of its own; everything else that we call raises OSError.
WRITE_ERRORS = (OSError, SafetensorError)


class Checkpoints:
    """The last `keep` checkpoints of a run, one folder `step_00001234` each.

    Args:
        folder: which holds them; made when the first is written.
        keep: how many of the newest stay, ≥ 1.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, keep

    def all(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("step_*"))

    def begin(self) -> Path:
        """An empty folder to write the next one into; what an interrupted one left is removed."""
        partial = self.folder / PARTIAL
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        return partial

    def finish(self, step: int) -> Path:
        """Adds the checksums to what `begin` gave, renames it to its place, and removes the oldest checkpoints."""
        partial, target = self.folder / PARTIAL, self.folder / f"step_{step:08d}"
        (partial / MANIFEST).write_text(json.dumps(checksums(partial), indent=1) + "\n")
        shutil.rmtree(target, ignore_errors=True)  # of the same step, from before a resume
        partial.rename(target)
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)
        return target

    def abandon(self) -> None:
        """Removes what `begin` gave: it could not be written."""
        shutil.rmtree(self.folder / PARTIAL, ignore_errors=True)

    @contextlib.contextmanager
    def writing(self, step: int) -> Iterator[Path]:
        """A folder to write a step's checkpoint into; in its place if the block succeeds, else gone."""
        try:
            yield self.begin()
            self.finish(step)
        except BaseException:
            self.abandon()
            raise

    def last(self) -> str:
        """The newest, for messages."""
        return str((self.all() or ["(none)"])[-1])

    def chosen(self, resume: str | None, say: Callable[[str], None]) -> Path | None:
        """The checkpoint that the option `resume` means: "latest", a folder, or none. A folder is not looked at.

        Raises:
            ValueError: as `newest`.
        """
        if resume == "latest":
            return self.newest(say)
        return Path(resume) if resume else None

    def newest(self, say: Callable[[str], None]) -> Path | None:
        """The newest undamaged checkpoint; `say` gets one line for every damaged one that is newer. `None` where a run
        was stopped before its first, which `say` is told too.

        Raises:
            ValueError: where all are damaged: who starts anew may want to look at them first.
        """
        checkpoints = self.all()
        if not checkpoints:
            say(f"There is no checkpoint in {self.folder}: the run starts from its beginning.")
            return None
        for checkpoint in reversed(checkpoints):
            if damage := damage_of(checkpoint):
                say(f"{checkpoint} is damaged ({damage}); the one before it is taken.")
            else:
                return checkpoint
        raise ValueError(
            f"All checkpoints in {self.folder} are damaged. Remove it, and the run starts from its beginning."
        )


@contextlib.contextmanager
def spared(what: str, say: Callable[[str], None], advice: str = "Make room on the disk.") -> Iterator[None]:
    """A full disk costs what is written in the block, and not the run: `say` gets one line."""
    try:
        yield
    except WRITE_ERRORS as error:
        say(f"{what} could not be written ({one_line(error)}); training goes on. {advice}")


def save_state(state: dict, path: Path) -> None:
    """`torch.save`, with the true error of a full disk: its own is a `RuntimeError` about positions in the file.

    Raises:
        OSError: where the disk is full.
    """
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def checksums(folder: Path) -> dict[str, str]:
    """File (relative) → SHA-256."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def damage_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; `None` for a sound one."""
    try:
        expected = json.loads((checkpoint / MANIFEST).read_text())
    except (OSError, ValueError):
        return f"{MANIFEST} is missing or broken"
    found = checksums(checkpoint)
    for name, checksum in expected.items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != checksum:
            return f"{name} is not what was written"
    return None
