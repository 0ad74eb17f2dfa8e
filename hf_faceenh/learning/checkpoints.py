"""Checkpoints that are whole or not there, and the newest that can be trusted."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

MANIFEST = "manifest.json"  # of the checksums; written last, so that what has one was complete
PARTIAL = ".partial"


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
        """Seals what `begin` gave, puts it in its place with one rename, and removes the oldest."""
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

    def newest(self, say: Callable[[str], None]) -> Path:
        """The newest undamaged checkpoint; `say` gets one line for every damaged one that is newer.

        Raises:
            FileNotFoundError: where there is none.
        """
        for checkpoint in reversed(self.all()):
            if damage := damage_of(checkpoint):
                say(f"{checkpoint} is damaged ({damage}); the one before it is taken.")
            else:
                return checkpoint
        raise FileNotFoundError(f"There is no undamaged checkpoint in {self.folder}; start without --resume.")


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
