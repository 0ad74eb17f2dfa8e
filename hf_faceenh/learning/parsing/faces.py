"""Aligned faces and their label maps, from two folders or from a dataset with both."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from hf_faceenh.errors import explained
from hf_faceenh.learning.data import DecodedPictures, decode, load_pictures, picture_files, undecoded
from hf_faceenh.learning.parsing.labels import CELEBAMASK_HQ, HEAD_ID, LABELS, to_label_ids

COLUMNS = ("image", "label")


class LabelledFaces(DecodedPictures):
    """Aligned faces and their label maps: (picture `[H, H, 3]`, map `[h, h]` of ids in `LABELS`), uint8.

    Faces that cannot be read, are not square or have no label map are left out; `skipped` counts them. Pictures larger
    than `largest` px are downscaled to it.

    Args:
        dataset: folder of faces, or what else `load_pictures` knows with the columns "image" and "label".
        labels: folder of the label maps of a folder of faces: PNGs of the same names, of ids of CelebAMask-HQ.
        split: of a dataset.
        largest: largest side of a picture in px.
        head_id: the id of the rest of the head in the label maps, see `to_label_ids`.

    Raises:
        ValueError: with one line, where nothing usable is found, or a map has ids that CelebAMask-HQ does not have.
    """

    def __init__(self, dataset: str, labels: str | None, split: str, largest: int, head_id: int = HEAD_ID):
        self.name, self.largest, self._to_label_ids = labels or dataset, largest, to_label_ids(head_id)
        self._pairs = _of_folders(dataset, labels) if Path(dataset).is_dir() else _of_dataset(dataset, split)
        self.pixels = np.zeros(len(LABELS), np.int64)  # of each class
        super().__init__(len(self._pairs))
        if not len(self):
            raise ValueError(f"{dataset}: none of its {self.skipped} pictures is readable, square and labelled.")

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        pair = self._pairs[index]
        picture, ids = np.asarray(_square(pair["image"], "RGB", self.largest)), _square(pair["label"], None)
        ids = np.asarray(ids if ids.mode == "P" else ids.convert("L"))
        if len(picture) > self.largest:
            picture = cv2.resize(picture, (self.largest, self.largest), interpolation=cv2.INTER_AREA)
        return picture, self._to_label_ids[ids]

    def found(self, example: tuple[np.ndarray, np.ndarray]) -> None:
        _, ids = example
        if ids.max() >= len(LABELS):
            raise ValueError(
                f"{self.name}: a label map has ids above {len(CELEBAMASK_HQ) - 1}: "
                "they must be those of CelebAMask-HQ."
            )
        self.pixels += np.bincount(ids.ravel(), minlength=len(LABELS))


def _of_folders(faces: str, labels: str | None) -> Sequence[dict[str, dict]]:
    if labels is None or not Path(labels).is_dir():
        raise ValueError(f"{faces}: needs a folder of label maps beside it (--labels); got {labels}.")
    maps = {path.stem: str(path) for path in Path(labels).rglob("*.png")}
    return [
        {"image": {"path": str(path)}, "label": {"path": maps.get(path.stem)}}
        for path in picture_files(faces, below=True)
    ]


def _of_dataset(name: str, split: str) -> Sequence[dict[str, dict]]:
    with explained(f"{name}: neither a folder of faces nor a dataset of faces and label maps"):
        return undecoded(load_pictures(name, split, columns=COLUMNS), COLUMNS)


def _square(picture: dict, mode: str | None, reduced_to: int | None = None) -> PIL.Image.Image:
    image = decode(picture, mode, reduced_to)
    if image.width != image.height:
        raise OSError(f"expected a square picture, got {image.width}×{image.height}")
    return image
