"""Training samples of a parser: faces moved, mirrored, relit, covered and degraded at random."""

import math

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from hf_faceenh.learning.degradation import GREY, Degradation
from hf_faceenh.learning.parsing.labels import LABELS, MIRRORED

LOSS_DOWNSCALING = 2  # label maps, and so the loss, are smaller than the input by this factor
SHIFT, SCALE, ROTATION = 0.02, 0.06, 7.0  # standard deviations: share of the side, logarithm, degrees
SQUEEZE = 0.75  # least width, of that of the face: what a head turned aside keeps
DEGRADED_SHARE, GREY_SHARE, COVERED_SHARE, SQUEEZED_SHARE = 0.6, 0.1, 0.3, 0.3  # of the training faces


def jitter(rng: np.random.Generator) -> np.ndarray:
    """A random similarity transform `[3, 3]` about the centre, a mirroring half of the time, and now and then a face
    made narrower; in crop sides."""
    angle = math.radians(ROTATION) * rng.standard_normal()
    scale = math.exp(SCALE * rng.standard_normal())
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    shift = 0.5 + SHIFT * rng.standard_normal(2)
    to_centre = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    turn = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]], [0, 0, 1]])
    width = rng.uniform(SQUEEZE, 1) if rng.random() < SQUEEZED_SHARE else 1
    return turn @ np.diag([width * rng.choice([-1, 1]), 1, 1]) @ to_centre


def warp(image: np.ndarray, transform: np.ndarray, size: int, **how) -> np.ndarray:
    """A square image through a transform in crop sides, to `size` px."""
    source, target = np.diag([len(image), len(image), 1]), np.diag([size, size, 1])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from the centre of the first pixel
    matrix = np.linalg.inv(half) @ target @ transform @ np.linalg.inv(source) @ half
    return cv2.warpAffine(image, matrix[:2], (size, size), **how)


def relight(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random contrast, brightness and colour cast, now and then grey; uint8 in and out."""
    values = picture.astype(np.float32)
    if rng.random() < GREY_SHARE:
        values = np.repeat(values @ GREY[:, None], 3, axis=2)
    gain = rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    return ((values - 128) * gain + 128 + rng.uniform(-30, 30)).round().clip(0, 255).astype(np.uint8)


def cover(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strands, bars and patches of one colour over a face, uint8 in and out: like the hair and the glasses that the
    label maps do not know, they hide what is there without changing what it is."""
    covered, side = picture.copy(), len(picture)
    colour = rng.integers(0, 200, 3).tolist()
    for _ in range(rng.integers(1, 8)):
        (start, end), width = rng.integers(0, side, (2, 2)).tolist(), int(rng.integers(1, 4))
        kind = rng.choice(["strand", "rim", "patch"], p=[0.6, 0.25, 0.15])
        if kind == "strand":
            middle = (np.add(start, end) / 2 + rng.normal(0, side / 12, 2)).astype(int).tolist()
            cv2.polylines(covered, [np.int32([start, middle, end])], False, colour, width, cv2.LINE_AA)
        elif kind == "rim":
            axes = rng.integers(side // 20, side // 8, 2).tolist()
            cv2.ellipse(covered, start, axes, 0, 0, 360, colour, width, cv2.LINE_AA)
        else:
            axes = rng.integers(side // 40, side // 12, 2).tolist()
            cv2.ellipse(covered, start, axes, float(rng.uniform(0, 180)), 0, 360, colour, cv2.FILLED, cv2.LINE_AA)
    return covered


class Samples(Dataset):
    """Augmented faces: (picture `[S, S, 3]` uint8, whether it was degraded, label ids `[S / 2, S / 2]`); item i is the
    same for any number of workers.

    More than half of the faces are degraded: in the pipeline a parser sees what an enhancer makes of such.

    Args:
        faces: `LabelledFaces`, or several of them as one dataset.
        length: how many samples there are.
        sample_size: S.
        seed: of everything random.
    """

    def __init__(self, faces: Dataset, length: int, sample_size: int, seed: int):
        self.faces, self.length, self.sample_size, self.seed = faces, length, sample_size, seed
        self.degradation = Degradation()
        self.mirrored = np.array([LABELS.index(MIRRORED.get(name, name)) for name in LABELS], np.uint8)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, bool, torch.Tensor]:
        rng = np.random.default_rng((self.seed, index))
        picture, ids = self.faces[rng.integers(len(self.faces))]
        transform = jitter(rng)
        picture = warp(picture, transform, self.sample_size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        ids = warp(ids, transform, self.sample_size // LOSS_DOWNSCALING, flags=cv2.INTER_NEAREST)
        if np.linalg.det(transform) < 0:
            ids = self.mirrored[ids]
        picture = relight(picture, rng)
        if rng.random() < COVERED_SHARE:
            picture = cover(picture, rng)
        degraded = rng.random() < DEGRADED_SHARE
        if degraded:
            picture = self.degradation(picture, rng)
        return torch.from_numpy(picture), bool(degraded), torch.from_numpy(ids.astype(np.int64))
