"""Files and folders: checks before work begins, writing whole or not at all, JSON that every reader understands."""

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from hf_faceenh.errors import one_line

LARGEST_FILE = 256 * 2**20  # bytes of a picture that is downloaded, or piped in


@contextlib.contextmanager
def written_whole(target: str | os.PathLike) -> Iterator[Path]:
    """A path beside `target` to write a file or a folder to; it takes the place of `target` when the block ends.

    If the block raises, `target` stays as it was and nothing is left beside it. A process that is killed leaves a
    hidden `.part` behind, but never half a `target`.

    Raises:
        OSError: whatever keeps the new file or folder from its place.
    """
    target = Path(target)
    partial = target.with_name(f".{os.urandom(8).hex()}.part")  # short: the target's name may be as long as allowed
    try:
        yield partial
        if partial.is_dir() and target.is_dir():
            _replace_folder(partial, target)
        else:
            os.replace(partial, target)
    finally:
        remove(partial)


def _replace_folder(new: Path, target: Path) -> None:
    """No system call replaces a folder that is not empty: the old one steps aside first."""
    old = new.with_suffix(".old")
    os.replace(target, old)
    try:
        os.replace(new, target)
    except OSError:
        os.replace(old, target)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Removes a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def check_empty(folder: Path) -> None:
    """Checks that a folder can be made: it must be empty if it is there.

    Raises:
        FileExistsError: for a file, or a folder that holds something.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists already and is not an empty folder. Choose another.")


def refuse_file(name: str | os.PathLike) -> None:
    """
    Raises:
        ValueError: for a file, such as a published checkpoint, where a model's folder or Hub name is expected.
    """
    if Path(name).is_file():
        raise ValueError(f"{name} is a file; expected a folder. Make one with: hf-faceenh convert {name} FOLDER")


def why_unreadable(file: Path) -> str | None:
    """What is wrong with a file that is to be read; `None` if it is there."""
    if file.is_file():
        return None
    if file.is_dir():
        return "this is a folder, not a file"
    return "this is a device or a pipe, not a file" if file.exists() else "there is no such file"


def read_json_object(file: Path) -> dict[str, Any]:
    """
    Raises:
        OSError: where there is no such file.
        ValueError: for a file that holds anything but a JSON object.
    """
    if reason := why_unreadable(file):
        raise OSError(f"{file}: {reason}.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({one_line(error)}); get it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is no JSON object, but a {type(content).__name__}; get it again.")
    return content


def untaken(path: PurePath, taken: set[str]) -> PurePath:
    """A relative path, with a number where its name is `taken`, which gets it; on many systems, Photo.jpg is
    photo.jpg."""
    stem, number = path.stem, 2
    while str(path).lower() in taken:
        path, number = path.with_stem(f"{stem} ({number})"), number + 1
    taken.add(str(path).lower())
    return path


def strict_json(value: object, **options: Any) -> str:
    """`value` as JSON, which has neither NaN nor infinity: they become null. Ends with a line break; `options` are
    those of `json.dumps`."""
    return json.dumps(_without_nan(value), allow_nan=False, **options) + "\n"


def _without_nan(value):
    if isinstance(value, dict):
        return {name: _without_nan(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
