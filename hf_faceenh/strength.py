"""How much of an enhanced face the result takes: one number for all faces, or a function that decides for each."""

from collections.abc import Callable
from numbers import Real

from hf_faceenh.faces import EnhancedFace

Strength = float | Callable[[EnhancedFace], float]


def strength_of(face: EnhancedFace, strength: Strength) -> float:
    """The strength of one face, in [0, 1].

    Args:
        face: its record, with all that is known before the result is made; its pictures are not there yet.
        strength: the number, or the function that gives it.

    Raises:
        ValueError: where the function gives something else than a number in [0, 1].
    """
    if not callable(strength):
        return float(strength)
    value = strength(face)
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise ValueError(
            f"The function given as strength must return a number in [0, 1]; got {value!r} for the face at "
            f"{', '.join(f'{x:.0f}' for x in face.box)}."
        )
    return float(value)
