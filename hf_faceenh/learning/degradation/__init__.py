"""Degraded faces from sharp ones: types of damage, each scaled by a coefficient.

Every type is a function that takes an `[H, W, 3]` float32 RGB array in [0, 1], a strength in [0, 1] (0: harmless, 1:
the worst named in its docstring) and a `numpy.random.Generator`, and returns a new array in [0, 1]. They follow a
picture's life: light and lens (optics), the film (film), the print and its years (printing, wear), the scanner and the
files (classical, codecs). `Degradation` (chain) applies them in that order, the order of `TYPES`.

Lengths in px are for a side of 512, and grow with it.
"""

from hf_faceenh.learning.degradation.chain import DEFAULT_PROBABILITIES, TYPES, Degradation, checked
from hf_faceenh.learning.degradation.classical import SMALLEST_SIDE, WORST_BLUR, WORST_NOISE, blur, noise
from hf_faceenh.learning.degradation.codecs import jpeg, noisy_and_compressed
from hf_faceenh.learning.degradation.pixels import GREY, resize

__all__ = [
    "DEFAULT_PROBABILITIES",
    "GREY",
    "SMALLEST_SIDE",
    "TYPES",
    "WORST_BLUR",
    "WORST_NOISE",
    "Degradation",
    "blur",
    "checked",
    "jpeg",
    "noise",
    "noisy_and_compressed",
    "resize",
]
