"""Still the same person: how far an enhanced face goes from the face that came in, and how far it may go."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from hf_faceenh.faces import EnhancedFace, Reason, left_alone
from hf_faceenh.models import FaceRecognizer
from hf_faceenh.recognition import embed, embedding_distance

# The default of `identity_limit`, a distance of dlib's recognizer. Of 441 faces that were degraded lightly, medium and
# heavily, 1 in 25 went further, all of them damaged heavily and about 50 px wide. Held back, in steps of a fifth, they
# were further from their sharp faces by 0.003 (95 % interval -0.006 to +0.012): the limit does not improve what the
# bundled enhancer guesses, it bounds what one can do that guesses worse. 0.35 holds back 1 in 9, and costs 0.007.
IDENTITY_LIMIT = 0.4
# Up to which distance what may be said of a face of the result, compared with the one that came in. Up to 0.2, none of
# those 441 was further than 0.5 from its sharp face; from 0.2 on, 1 in 11 was beyond 0.6, where dlib's author draws
# the line between two people.
WORDS = (
    (0.2, "clearly the same person"),
    (IDENTITY_LIMIT, "probably the same person"),
    (0.6, "may look like somebody else"),
    (float("inf"), "looks like somebody else"),
)
HELD_BACK = (
    "at strength {strength:.2g} only: at {wanted:.2g} it would look less like the same person, identity distance "
    "{distance:.2f}, more than identity_limit {limit:g}"
)
# Of a face's strength, tried one after the other while it goes too far: small steps, for where the photograph is badly
# damaged each takes back some of the damage.
SHARES = (1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


class Likeness(NamedTuple):
    """How like its own input a face of the result is.

    Args:
        strength: with which it keeps to the limit; `None` if it does with none that was tried.
        distance: the recognizer's distance of the result's face from the one that came in, with that strength.
        first: the same with the strength that was asked for.
    """

    strength: float | None
    distance: float
    first: float


def keep_likeness(
    recognizer: FaceRecognizer,
    crops: torch.Tensor,
    faces: torch.Tensor,
    masks: torch.Tensor,
    strengths: Sequence[float],
    limit: float,
) -> list[Likeness]:
    """Lowers the strength of each face, step by step, until it keeps to the limit.

    Measured is what the result gets: crop + strength · mask · (face − crop).

    Args:
        recognizer: as `check_recognizer` wants it.
        crops: the faces as the enhancer saw them, `[B, 3, S, S]` in [0, 1].
        faces: the same, enhanced.
        masks: how much of each pixel the enhanced face may give, `[B, 1, S, S]`.
        strengths: those that were asked for.
        limit: the largest distance that is allowed, as the recognizer measures it.
    """
    inputs = embed(recognizer, 2 * crops - 1)
    changes = masks * (faces - crops)
    first: list[float] = []
    kept: dict[int, Likeness] = {}
    too_far = list(range(len(crops)))
    for share in SHARES:
        tried = [share * strengths[index] for index in too_far]
        blends = crops[too_far] + crops.new_tensor(tried)[:, None, None, None] * changes[too_far]
        distances = embedding_distance(recognizer, inputs[too_far], embed(recognizer, 2 * blends - 1)).tolist()
        first = first or distances
        for index, strength, distance in zip(too_far, tried, distances, strict=True):
            kept[index] = Likeness(strength if distance <= limit else None, distance, first[index])
        too_far = [index for index in too_far if kept[index].strength is None]
        if not too_far:
            break
    return [kept[index] for index in range(len(crops))]


def judged(face: EnhancedFace, likeness: Likeness, limit: float) -> EnhancedFace:
    """A face's record with what `keep_likeness` found: the face is left alone if it keeps to the limit with none of
    the strengths that were tried."""
    if likeness.strength is None:
        return left_alone(face, Reason.IDENTITY, limit, likeness.first)
    held_back = None
    if likeness.strength != face.strength:
        held_back = HELD_BACK.format(
            strength=likeness.strength, wanted=face.strength, distance=likeness.first, limit=limit
        )
    return replace(face, strength=likeness.strength, held_back=held_back, identity_distance=likeness.distance)


def in_words(distance: float) -> str:
    """What an identity distance of dlib's recognizer says of a face of the result and the one that came in. It says
    nothing of the person who was photographed: what is gone from the photograph, no recognizer can compare."""
    return next(words for limit, words in WORDS if distance <= limit)
