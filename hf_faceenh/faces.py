"""The faces of a photograph: where they are, which of them are enhanced and why the others are not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch
from diffusers.utils import logging
from PIL import Image

from hf_faceenh.alignment import crop_faces, for_upscaled, scale_of, similarity_transform
from hf_faceenh.detail import measure
from hf_faceenh.models import FaceDetections, FaceDetector

logger = logging.get_logger(__name__)

CROP = 1.5  # side of an aligned crop in sides of the detector's box, the longer one


class FaceChoiceError(ValueError):
    """`only_faces` does not fit the pictures, or names a face that a picture does not have."""


class Reason(StrEnum):
    """Why a face is left alone."""

    NOT_CHOSEN = "not_chosen", "not chosen (only_faces)"
    TOO_SMALL = "too_small", "too small: its crop is {size:.0f} px wide, less than min_face_size {limit:g}"
    TOO_LARGE = "too_large", "too large: its crop is {size:.0f} px wide, more than max_face_size {limit:g}"
    SHARP_ENOUGH = (
        "sharp_enough",
        "sharp enough: it has detail of about {size:.0f} px, more than the enhancer's {limit:g}",
    )
    NO_GAIN = "no_gain", "no gain: enhanced, it would look the same"
    SURPLUS = "surplus", "not among the {limit} largest (max_faces)"
    IDENTITY = (
        "identity",
        "enhanced, it would no longer look like the same person: identity distance {distance:.2f}, more than "
        "identity_limit {limit:g} even with little strength",
    )

    def __new__(cls, value: str, template: str):
        member = str.__new__(cls, value)
        member._value_, member.template = value, template
        return member

    def sentence(self, size: float | None = None, limit: float | None = None, distance: float | None = None) -> str:
        """What a user is told; `size` is the side of the crop (of `SHARP_ENOUGH`: its detail) in px, `limit` the bound
        that it missed, `distance` the identity distance."""
        return self.template.format(size=size, limit=limit, distance=distance)


@dataclass(frozen=True, slots=True, eq=False)
class EnhancedFace:
    """One face of a photograph, and what was done to it.

    Args:
        box: x1, y1, x2, y2 in px of the photograph.
        landmarks: `[5, 2]` (x, y) px of the photograph: image-left eye, image-right eye, nose, image-left and
            image-right mouth corner; `None` for a crop that came aligned.
        score: the detector's, in [0, 1].
        transform: `[2, 3]`, px of the photograph → px of the crop.
        size: side of the crop in px of the photograph.
        detail: side in px at which all the detail fits that the crop really has, grain aside; far less than `size` if
            the face is blurred. See `detail.measure`.
        crop: the aligned face as the enhancer saw it, of side `sample_size`, in the call's `output_type`.
        enhanced: the same, enhanced; `None` if it was left alone.
        parsing: label id of every pixel of `enhanced`, `[S, S]` uint8, ids as in `parser.config.id2label`.
        mask: how much of each pixel went into the result, `[S, S]` float32 in [0, 1].
        left_alone: why the face was not enhanced, in one sentence; `None` if it was.
        reason: the same for a program.
        strength: how much of the enhanced face the result took, in [0, 1]; 0 if it was left alone.
        held_back: why `strength` is less than was asked for, in one sentence; `None` if it is not.
        identity_distance: how different the recognizer finds the face in the result from `crop`, the one that came in:
            0 is no difference; `likeness` has the words for it. `None` if it was left alone, or nobody looked.
    """

    box: tuple[float, float, float, float]
    landmarks: np.ndarray | None
    score: float
    transform: np.ndarray
    size: float
    detail: float | None = None
    crop: Image.Image | np.ndarray | torch.Tensor | None = None
    enhanced: Image.Image | np.ndarray | torch.Tensor | None = None
    parsing: np.ndarray | None = None
    mask: np.ndarray | None = None
    left_alone: str | None = None
    reason: Reason | None = None
    strength: float = 0.0
    held_back: str | None = None
    identity_distance: float | None = None


Show = Callable[[torch.Tensor], Image.Image | np.ndarray | torch.Tensor]  # [3, S, S] → the call's `output_type`
Found = tuple[list[EnhancedFace], torch.Tensor]  # records without pictures, and transforms [N, 2, 3]


def find_faces(
    detector: FaceDetector,
    pixels: torch.Tensor,
    size: int,
    threshold: float,
    min_size: float,
    on_look: Callable[[], None] | None = None,
) -> Found:
    """The faces of `[3, H, W]` that score at least `threshold`, and the transforms to aligned crops of side `size`.

    A large picture is looked at as closely as faces need whose crop has `min_size` px of the picture; `on_look` is
    called before each closer look.
    """
    detections = detector.detect(pixels, threshold, min_size / CROP, on_look)
    if not len(detections):
        logger.warning("No face found; the picture is super-resolved only.")
        return [], pixels.new_zeros(0, 2, 3)
    template = torch.tensor(detector.config.template) * size
    transforms = similarity_transform(detections.landmarks, template)
    return _records(detections, transforms, size), transforms


def whole_picture(pixels: torch.Tensor, size: int) -> Found:
    """The one face of a picture that is an aligned crop, and its transform.

    Raises:
        ValueError: where it is not square.
    """
    height, width = pixels.shape[1:]
    if height != width:
        raise ValueError(
            f"An aligned crop is square; got {width}×{height} px. Align the face first, or pass aligned=False."
        )
    box = pixels.new_tensor([[0, 0, width, height]])
    scale = size / width
    transforms = pixels.new_tensor([[[scale, 0, 0], [0, scale, 0]]])
    detections = FaceDetections(box, box.new_full((1, 5, 2), torch.nan), box.new_ones(1))
    return _records(detections, transforms, size), transforms


def _records(detections: FaceDetections, transforms: torch.Tensor, size: int) -> list[EnhancedFace]:
    sides = size / scale_of(transforms)
    landmarks = [None if p.isnan().any() else p.cpu().numpy() for p in detections.landmarks]
    rows = zip(detections.boxes.tolist(), landmarks, detections.scores.tolist(), transforms, sides, strict=True)
    return [
        EnhancedFace(tuple(box), points, score, transform.cpu().numpy(), float(side))
        for box, points, score, transform, side in rows
    ]


@dataclass(frozen=True, slots=True)
class Limits:
    """Which faces are enhanced; sizes are sides of the crop in px of the photograph, detail as in `EnhancedFace`."""

    min_size: float
    max_size: float | None
    max_faces: int | None
    max_detail: float | None = None


def measured(faces: Sequence[EnhancedFace], pixels: torch.Tensor) -> list[EnhancedFace]:
    """The records of the photograph `[3, H, W]` with the detail of each face."""
    return [replace(face, detail=measure(pixels, face.transform, face.size)) for face in faces]


def choices(only_faces: Sequence[Sequence[int]] | None, pictures: int) -> Sequence[Sequence[int] | None]:
    """The faces that were asked for in each of `pictures` pictures; `None` for all.

    Raises:
        FaceChoiceError: where `only_faces` is not one list per picture.
    """
    if only_faces is None:
        return [None] * pictures
    if len(only_faces) != pictures:
        raise FaceChoiceError(f"only_faces must hold one list per picture, {pictures}; got {len(only_faces)}.")
    return only_faces


def choose(faces: Sequence[EnhancedFace], only: Sequence[int] | None, limits: Limits) -> list[EnhancedFace]:
    """The records of one picture; those of faces that are left alone now say why.

    Args:
        faces: all faces of the picture.
        only: the indices of those that were asked for; `None` for all.
        limits: which of these are enhanced.

    Raises:
        FaceChoiceError: where `only` has an index of no face.
    """
    if unknown := set(only or ()) - set(range(len(faces))):
        raise FaceChoiceError(
            f"only_faces asks for face {min(unknown)} of a picture with {len(faces)}; they are counted from 0."
        )

    def checked(index: int, face: EnhancedFace) -> EnhancedFace:
        if only is not None and index not in only:
            return left_alone(face, Reason.NOT_CHOSEN)
        if face.size < limits.min_size:
            return left_alone(face, Reason.TOO_SMALL, limits.min_size)
        if limits.max_size is not None and face.size > limits.max_size:
            return left_alone(face, Reason.TOO_LARGE, limits.max_size)
        if limits.max_detail is not None and face.detail > limits.max_detail:
            return left_alone(face, Reason.SHARP_ENOUGH, limits.max_detail)
        return face

    faces = [checked(index, face) for index, face in enumerate(faces)]
    by_size = sorted(wanted(faces), key=lambda index: faces[index].size, reverse=True)
    for index in by_size[limits.max_faces :] if limits.max_faces is not None else ():
        faces[index] = left_alone(faces[index], Reason.SURPLUS, limits.max_faces)
    return faces


def wanted(faces: Sequence[EnhancedFace]) -> list[int]:
    """The indices of the faces that are to be enhanced."""
    return [index for index, face in enumerate(faces) if face.reason is None]


def left_alone(
    face: EnhancedFace, reason: Reason, limit: float | None = None, distance: float | None = None
) -> EnhancedFace:
    """The record of a face that is not enhanced; for `limit` and `distance` see `Reason.sentence`."""
    size = face.detail if reason is Reason.SHARP_ENOUGH else face.size
    return replace(face, left_alone=reason.sentence(size, limit, distance), reason=reason, strength=0.0)


def crop_both(
    pixels: torch.Tensor, upscaled: torch.Tensor | None, transforms: torch.Tensor, size: int
) -> torch.Tensor:
    """The aligned faces `[N, 3, S, S]`: the mean of the photograph's and, if there is one, the upscaled photograph's.

    The photograph has all that is left of the face, the upscaled one has less noise. From their mean the enhancer
    comes nearer to the sharp face at light and medium damage, and as near at heavy damage; from the upscaled
    photograph alone it would do worse at heavy damage.
    """
    crops = crop_faces(pixels, transforms, size)
    if upscaled is None:
        return crops
    factor = upscaled.shape[-1] / pixels.shape[-1]
    return (crops + crop_faces(upscaled, for_upscaled(transforms, factor), size)) / 2


def filled_in(
    face: EnhancedFace,
    show: Show,
    crop: torch.Tensor | None = None,
    enhanced: torch.Tensor | None = None,
    parsing: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> EnhancedFace:
    """The record with those pictures that are given: crop and enhanced `[3, S, S]`, labels and mask `[S, S]`."""
    shown = {name: show(pixels) for name, pixels in (("crop", crop), ("enhanced", enhanced)) if pixels is not None}
    maps = {name: each.cpu().numpy() for name, each in (("parsing", parsing), ("mask", mask)) if each is not None}
    return replace(face, **shown, **maps)
