"""The pictures that a command line names: files, URLs, folders, patterns and the standard input.

Nothing is opened here.
"""

import glob
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from hf_faceenh.pictures import SUFFIXES, heic

STREAM = "-"  # the standard input, or the standard output
KINDS = 8  # of passed-over files that are told apart

# What a result is called that has no other name, and what is written beside it.
RESULT = re.compile(r"(?P<stem>.+)_enhanced(_compare|(?P<face>_face_\d+(_\d+)?(_enhanced)?))?")


class Named(NamedTuple):
    """A picture that was named, with its path below a folder for the results, and where its result goes if no output
    was named."""

    picture: Path | str
    below: Path
    beside: Path


def find(sources: Sequence[str], output: str | None) -> tuple[list[Named], list[Path]]:
    """The pictures, each once, and the files of folders and patterns that were passed over.

    Without an output, results of an earlier run lie beside the pictures: a shell that expands a pattern names them
    too, and they are left out.

    Raises:
        ValueError: for a folder or pattern with files, but no picture.
    """
    found, over = {}, []
    for source in sources:
        pictures, others = expand(source, output)
        for named in pictures:
            found.setdefault((named.picture, named.below), named)
        over += others
    pictures = list(found.values())
    if output is None:
        stems = _stems(named.picture for named in pictures if isinstance(named.picture, Path))
        pictures = [one for one in pictures if isinstance(one.picture, str) or not is_result(one.picture, stems)]
    return pictures, list(dict.fromkeys(over))


def expand(source: str, output: str | None) -> tuple[list[Named], list[Path]]:
    """What one of the sources stands for, as `find`.

    A folder is walked. Hidden files, results of an earlier run and `output`, where it lies inside the folder, are
    skipped. A missing file is kept, to be reported when its turn comes.
    """
    if source == STREAM:
        return [Named(source, Path("picture"), Path(STREAM))], []
    if source.lower().startswith(("http://", "https://")):
        name = Path(Path(urlsplit(source).path).name or "picture")
        return [Named(source, name, enhanced(name))], []
    path = Path(source)
    if path.is_dir():
        return _walk(path, output)
    matches = [] if path.exists() else sorted(map(Path, glob.glob(source, recursive=True)))
    files = [match for match in matches if match.is_file()]
    if not files:
        return [Named(path, Path(path.name), enhanced(path))], []
    pictures, over = _split(files, {path.suffix.lower()} - {""})
    if not pictures:
        raise ValueError(f"There is no picture among {source}: {passed_over(over)}.")
    return [Named(file, Path(file.name), enhanced(file)) for file in pictures], over


def _walk(folder: Path, output: str | None) -> tuple[list[Named], list[Path]]:
    earlier = set() if output is None else {Path(output).resolve()} - {folder.resolve()}
    files = []
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if not hidden and file.is_file() and not earlier & {file.resolve(), *file.resolve().parents}:
            files.append(file)
    pictures, over = _split(files)
    if not pictures:
        reason = f": {passed_over(over)}" if over else f"; expected {' '.join(SUFFIXES)}"
        raise ValueError(f"There is no picture in the folder {folder}{reason}.")
    named = folder if folder.name not in ("", "..") else folder.resolve()
    home = named.with_name(f"{named.name}_enhanced")
    below = [file.relative_to(folder) for file in pictures]
    return [Named(file, path, home / path) for file, path in zip(pictures, below, strict=True)], over


def _split(files: Sequence[Path], more: Iterable[str] = ()) -> tuple[list[Path], list[Path]]:
    """Pictures, which have one of their endings or of `more`, and the rest; without the results of an earlier run."""
    endings = {*SUFFIXES, *more, *(heic.SUFFIXES if heic.is_installed() else ())}
    stems = _stems(files)
    files = [file for file in files if not is_result(file, stems)]
    pictures = [file for file in files if file.suffix.lower() in endings]
    return pictures, [file for file in files if file.suffix.lower() not in endings]


def enhanced(path: Path) -> Path:
    """What the result of `path` is called that has no other name."""
    return path.with_stem(f"{path.stem}_enhanced")


def _stems(files: Iterable[Path]) -> set[tuple[Path, str]]:
    return {(file.parent, file.stem) for file in files}


def is_result(file: Path, stems: set[tuple[Path, str]]) -> bool:
    """Whether an earlier run without an output made it: by its name, and the picture that it is of is there too."""
    match = RESULT.fullmatch(file.stem)
    if match is None:
        return False
    home = file.parent.parent if match["face"] and file.parent.name == "faces" else file.parent
    return (home, match["stem"]) in stems


def passed_over(files: Sequence[Path]) -> str:
    """What was passed over, by kind and number, e.g. "3 files passed over: 2 .txt, 1 without an ending"."""
    counts = Counter(_kind(file) for file in files)
    kinds = [f"{number} {kind}" for kind, number in counts.most_common(KINDS)]
    if rest := sum(number for _, number in counts.most_common()[KINDS:]):
        kinds.append(f"{rest} others")
    return f"{len(files)} file{'s' * (len(files) != 1)} passed over: {', '.join(kinds)}"


def _kind(file: Path) -> str:
    ending = file.suffix.lower()
    if ending in heic.SUFFIXES:
        return f"{ending} ({heic.HINT})"
    return ending if re.fullmatch(r"\.\w{1,9}", ending) else "without an ending"
