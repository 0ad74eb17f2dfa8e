"""Pairs of a sharp face and a degraded one: drawn for training, fixed for evaluation."""

import math
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
from datasets import Dataset, Features, Image
from datasets.fingerprint import Hasher

from hf_faceenh.learning import degradation as degradation_code
from hf_faceenh.learning.data import reader, sources
from hf_faceenh.learning.data.reader import Reader
from hf_faceenh.learning.data.relighting import Relighting
from hf_faceenh.learning.data.sources import undecoded
from hf_faceenh.learning.degradation import Degradation, resize

DEFAULT_LIGHT = Relighting()


class FacePairs:
    """Sharp faces → training pairs: a slightly misaligned crop in another light, mirrored half of the time, and the
    same degraded.

    The misalignment is what a detector's landmarks leave: an enhancer that never saw it fails on photographs.

    Args:
        degradation: makes the degraded face.
        sample_size: side of both pictures in px.
        shift: standard deviation of the crop's shift, as a share of its side, per axis.
        scale: standard deviation of the logarithm of the crop's scale.
        rotation: standard deviation of its rotation in degrees.
        relight: changes the sharp face's light and colours.
    """

    def __init__(
        self,
        degradation: Degradation,
        sample_size: int = 256,
        shift: float = 0.01,
        scale: float = 0.04,
        rotation: float = 2.0,
        relight: Relighting | None = DEFAULT_LIGHT,
    ):
        self.degradation = degradation
        self.sample_size = sample_size
        self.shift, self.scale, self.rotation = shift, scale, rotation
        self.relight = relight

    def __call__(
        self, face: np.ndarray, seed: int | tuple[int, ...], coefficients: Mapping[str, float] | None = None
    ) -> dict[str, np.ndarray | int]:
        """A pair from one face; the same for the same seed and coefficients.

        Args:
            face: `[H, W, 3]` uint8 RGB.
            seed: decides everything random.
            coefficients: type → coefficient in place of the degradation's own.

        Returns:
            "hq" and "lq", `[S, S, 3]` uint8; "tags" and "side", see `Degradation.with_tags`.
        """
        rng = np.random.default_rng(seed)
        crop = self._jitter(face, rng)
        hq = resize(crop, (self.sample_size, self.sample_size))
        hq = self.relight(hq, rng) if self.relight else hq
        lq, tags, side = self.degradation.with_tags(hq, rng, coefficients)
        return {"hq": hq, "lq": lq, "tags": tags, "side": side}

    def _jitter(self, face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = face.shape[:2]
        mirrored = rng.random() < 0.5
        turn = cv2.getRotationMatrix2D(
            ((width - 1) / 2, (height - 1) / 2),
            self.rotation * rng.standard_normal(),
            math.exp(self.scale * rng.standard_normal()),
        )
        turn[:, 2] += self.shift * rng.standard_normal(2) * (width, height)
        if mirrored:
            turn = turn @ [[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]]
        return cv2.warpAffine(face, turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def fixed_pairs(faces: Dataset, degradation: Degradation, sample_size: int, seed: int) -> Dataset:
    """Every face once, unchanged but for its size, and the same degraded; always the same pairs.

    Args:
        faces: with a column "image".
        degradation: makes the degraded faces, with its own coefficients.
        sample_size: side of both pictures in px.
        seed: decides the damage, together with the face's number.

    Returns:
        columns "hq" and "lq", pictures (PNG). Kept in the cache of `datasets`; faces that cannot be read are left out.
    """
    arguments = {"read": Reader(sample_size), "degradation": degradation, "sample_size": sample_size, "seed": seed}
    # By hand: the library's own fingerprint does not see what changes in our code.
    own = sorted(Path(degradation_code.__file__).parent.glob("*.py"))
    files = (__file__, reader.__file__, sources.__file__, *own)
    code = (*(Path(file).read_text() for file in files), cv2.__version__)
    fingerprint = Hasher.hash((faces._fingerprint, vars(degradation), sample_size, seed, code))
    return undecoded(faces).map(
        _fixed_pairs,
        with_indices=True,
        batched=True,
        batch_size=16,
        fn_kwargs=arguments,
        remove_columns="image",
        features=Features(hq=Image(), lq=Image()),
        new_fingerprint=fingerprint,
        desc="Degrading the evaluation set",
    )


def _fixed_pairs(
    rows: dict[str, list[dict]],
    indices: list[int],
    read: Reader,
    degradation: Degradation,
    sample_size: int,
    seed: int,
) -> dict[str, list[PIL.Image.Image]]:
    pairs = {"hq": [], "lq": []}
    for picture, index in zip(rows["image"], indices, strict=True):
        face = read(picture, index)
        if face is not None:
            hq = resize(face, (sample_size, sample_size))
            lq = degradation(hq, np.random.default_rng((seed, index)))
            pairs["hq"].append(PIL.Image.fromarray(hq))
            pairs["lq"].append(PIL.Image.fromarray(lq))
    return pairs
