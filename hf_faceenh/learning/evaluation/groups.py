"""For whom an enhancer works: its gain over the degraded faces, group of people by group."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hf_faceenh.learning.intervals import mean_with_interval
from hf_faceenh.learning.tables import INPUT

EVERYBODY = "everybody"


def read_groups(path: Path, faces: Sequence[str]) -> dict[str, list[str]]:
    """Group → those of `faces` that belong to it.

    Args:
        path: JSON of group → names of files without their endings.
        faces: names of files, with them.

    Raises:
        ValueError: where the file is not of that form, or a group has none of the faces.
    """
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))
        members = {name: {str(member) for member in listed} for name, listed in groups.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"--groups {path}: expected a JSON object of group → names of faces; {error}.") from error
    found = {name: [face for face in faces if Path(face).stem in listed] for name, listed in members.items()}
    if empty := [name for name, listed in found.items() if not listed]:
        raise ValueError(f"--groups {path}: none of the faces is in the group {empty[0]!r}.")
    return found


def gains(rows: Sequence[Mapping], groups: Mapping[str, Sequence[str]]) -> list[dict]:
    """What every model does at every level to everybody, and to each group.

    Args:
        rows: of `results_of`; those with "by_face" count.
        groups: of `read_groups`.

    Returns:
        for each "model", "group" and "level" the number of "faces", "psnr" (`mean_with_interval` of the gain), how
        many faces are "worse" in PSNR than their input, and "identity": the mean distance as a factor of the input's,
        where it was measured.
    """
    by_face = {(row["model"], row["level"]): row["by_face"] for row in rows if "by_face" in row}
    inputs = {level: faces for (model, level), faces in by_face.items() if model == INPUT}
    found = []
    for (model, level), faces in by_face.items():
        if model != INPUT:
            for group, names in ({EVERYBODY: list(faces)} | dict(groups)).items():
                gain = _gain(faces, inputs[level], [name for name in names if name in faces])
                found.append({"model": model, "group": group, "level": level, **gain})
    return found


def _gain(faces: Mapping, inputs: Mapping, names: Sequence[str]) -> dict:
    psnr = np.array([faces[name]["psnr"] - inputs[name]["psnr"] for name in names])
    gain = {"faces": len(names), "psnr": mean_with_interval(psnr), "worse": int((psnr < 0).sum())}
    distances = np.array([[side[name].get("identity", np.nan) for name in names] for side in (faces, inputs)])
    measured = ~np.isnan(distances).any(axis=0)
    if measured.any():
        after, before = distances[:, measured].mean(axis=1)
        gain["identity"] = float(after / before)
    return gain
