"""The files that are measured: pairs of faces by name, their landmarks, and what other programs made of them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hf_faceenh.learning.data import decode, picture_files, pictures_of

OVERALL = "overall"  # name of all levels together


def levels_of(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Name of a folder → its pictures.

    Raises:
        ValueError: for a folder that is missing or empty, or has the name of another.
    """
    levels = {}
    for folder in folders:
        paths = pictures_of("--lq", folder)
        name = folder.resolve().name
        if name in (*levels, OVERALL):
            raise ValueError(f"--lq {folder}: a level is called {name} already; rename the folder.")
        levels[name] = paths
    return levels


def made_faces(folder: Path, levels: dict[str, list[Path]]) -> dict[Path, Path]:
    """Degraded face → what another program made of it: the picture of its level and name, of whatever format.

    Raises:
        ValueError: where one is missing.
    """
    made = {}
    for level, paths in levels.items():
        files = picture_files(folder / level) if (folder / level).is_dir() else []
        pictures = {path.stem: path for path in files}
        for path in paths:
            if path.stem not in pictures:
                raise ValueError(f"--made {folder}: expected an enhanced {path.name} in {folder / level}.")
            made[path] = pictures[path.stem]
    return made


def read_landmarks(path: Path) -> dict[str, np.ndarray]:
    """File name → landmarks `[5, 2]` px of that file, of those lines that have them.

    Raises:
        ValueError: with file and line, for a line that is not as prepare_faces.py writes them.
    """
    landmarks = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            if row.get("landmarks") is not None:
                landmarks[row["file_name"]] = np.array(row["landmarks"], np.float32).reshape(5, 2)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path}, line {number}: expected a JSON object with file_name and five landmarks (x, y); {error}."
            ) from error
    return landmarks


def read_square(path: Path) -> np.ndarray:
    """An aligned face, sharp or degraded, `[S, S, 3]` uint8 RGB.

    Raises:
        ValueError: where it is missing, not a picture, or not square.
    """
    try:
        picture = np.asarray(decode({"path": str(path)}))
    except OSError as error:
        raise ValueError(
            f"{path} is missing or not a picture; every degraded face needs a sharp one of the same name."
        ) from error
    height, width = picture.shape[:2]
    if height != width:
        raise ValueError(f"{path} is {width}×{height} px; expected an aligned, square face.")
    return picture
