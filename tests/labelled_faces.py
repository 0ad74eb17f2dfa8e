"""Drawn faces with their label maps."""

from pathlib import Path

import numpy as np
from PIL import Image

from hf_faceenh.learning.parsing import CELEBAMASK_HQ

SIZE = 64
L_EYE, R_EYE, HAIR = (CELEBAMASK_HQ.index(name) for name in ("l_eye", "r_eye", "hair"))


def make_faces(folder: Path, count: int) -> tuple[Path, Path]:
    """Grey heads with a green left eye and a red right one, at different places, and their label maps."""
    faces, labels = folder / "faces", folder / "labels"
    faces.mkdir(parents=True)
    labels.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        picture = rng.integers(0, 40, (SIZE, SIZE, 3), dtype=np.uint8)
        ids = np.full((SIZE, SIZE), HAIR, np.uint8)
        picture[8:56, 12:52], ids[8:56, 12:52] = 150, 1
        y = rng.integers(20, 32)
        picture[y : y + 8, 18:28], ids[y : y + 8, 18:28] = (250, 0, 0), R_EYE
        picture[y : y + 8, 36:46], ids[y : y + 8, 36:46] = (0, 250, 0), L_EYE
        Image.fromarray(picture).save(faces / f"{i}.png")
        Image.fromarray(ids).save(labels / f"{i}.png")
    return faces, labels
