"""The same sharp face in another light, or on another film: what a photographer could have made of it."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from hf_faceenh.learning.degradation import GREY

TURN = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # generates rotations about the grey axis
INPUTS = np.linspace(0, 1, 256)[:, None]


@dataclass(frozen=True)
class Relighting:
    """Changes of a sharp face before it is degraded. A set of faces in which most eyes are blue teaches that eyes are.

    Args:
        share: of the faces that are relit at all, in [0, 1].
        temperature: standard deviation of the logarithm of red against blue.
        hue: standard deviation of its rotation in degrees.
        saturation: standard deviation of its logarithm.
        gamma: standard deviation of the logarithm of the exponent that makes a face lighter or darker.
        side_light: share of the relit faces that have light from a side.
        grey: share of all faces that become grey.
        toned: share of all faces that become toned: sepia, now and then blue.
    """

    share: float = 0.7
    temperature: float = 0.06
    hue: float = 3.0
    saturation: float = 0.12
    gamma: float = 0.15
    side_light: float = 0.25
    grey: float = 0.06
    toned: float = 0.03

    def __call__(self, face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`[H, W, 3]` uint8 RGB → the same, or another."""
        relit, film = rng.random() < self.share, rng.random()
        if relit:
            face = self._in_other_light(face, rng)
        if film < self.grey + self.toned:
            face = cv2.transform(face, np.tile(GREY, (3, 1)))
        return _toned(face, rng) if self.grey <= film < self.grey + self.toned else face

    def _in_other_light(self, face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        angle, warmth = math.radians(self.hue) * rng.standard_normal(), self.temperature * rng.standard_normal() / 2
        turned = np.eye(3) + math.sin(angle) * TURN + (1 - math.cos(angle)) * TURN @ TURN  # Rodrigues' formula
        saturation = math.exp(self.saturation * rng.standard_normal())
        saturated = saturation * np.eye(3) + (1 - saturation) * np.tile(GREY, (3, 1))
        warmed = np.exp([warmth, 0, -warmth])
        face = cv2.transform(face, (warmed[:, None] * saturated @ turned).astype(np.float32))
        face = _through(face, INPUTS ** math.exp(self.gamma * rng.standard_normal()))
        return _lit_from_a_side(face, rng) if rng.random() < self.side_light else face


def _through(face: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Every channel through its curve, `[256, 1 or 3]` from 0 to 1."""
    return cv2.LUT(face, (curves * 255).round().astype(np.uint8)[None])


def _toned(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Middle tones brown, in a fifth of the cases blue; black and white stay."""
    tone = rng.uniform(0.12, 0.5) * (1 if rng.random() < 0.8 else -0.6)
    return _through(face, INPUTS ** np.exp([-0.6 * tone, 0.1 * tone, tone]))


def _lit_from_a_side(face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Up to a third brighter on one side and darker on the other; softly, so that little is lost in white."""
    angle, depth = rng.uniform(0, 2 * math.pi), rng.uniform(0.1, 0.33)
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in face.shape[:2])
    light = 1 - 0.3 * depth + depth * np.tanh(1.5 * (x[None] * math.cos(angle) + y[:, None] * math.sin(angle)))
    return cv2.multiply(face, cv2.merge([light.astype(np.float32)] * 3), dtype=cv2.CV_8U)
