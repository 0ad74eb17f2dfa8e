"""Which faces are enhanced, and what is said of the others."""

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hf_faceenh.faces import EnhancedFace, FaceChoiceError, Limits, Reason, choices, choose, find_faces, wanted
from hf_faceenh.models import FaceDetections

ANY = Limits(0, float("inf"), None)


def faces(*sizes):
    """Of these sizes, and with detail for half of their px."""
    return [EnhancedFace((0, 0, size, size), None, 1.0, np.eye(2, 3), float(size), size / 2) for size in sizes]


SURPLUS, LARGE, SHARP = Reason.SURPLUS, Reason.TOO_LARGE, Reason.SHARP_ENOUGH


@pytest.mark.parametrize(
    ("only", "limits", "reasons", "sentence"),
    [
        ([1, 2], ANY, [Reason.NOT_CHOSEN, None, None], "not chosen (only_faces)"),
        (
            *(None, Limits(25, 99, None), [Reason.TOO_SMALL, None, None]),
            "too small: its crop is 20 px wide, less than min_face_size 25",
        ),
        (
            *(None, Limits(0, 30.5, None), [None, LARGE, LARGE]),
            "too large: its crop is 60 px wide, more than max_face_size 30.5",
        ),
        (
            *(None, Limits(0, float("inf"), None, max_detail=24), [None, SHARP, None]),
            "sharp enough: it has detail of about 30 px, more than the enhancer's 24",
        ),
        (None, Limits(0, 99, 1), [SURPLUS, None, SURPLUS], "not among the 1 largest (max_faces)"),
        (None, Limits(0, 59, 1), [SURPLUS, LARGE, None], "not among the 1 largest (max_faces)"),
    ],
)
def test_why_a_face_is_left_alone(only, limits, reasons, sentence):
    records = choose(faces(20, 60, 40), only, limits)
    assert [face.reason for face in records] == reasons
    assert [face.left_alone is None for face in records] == [reason is None for reason in reasons]
    assert next(face.left_alone for face in records if face.left_alone) == sentence
    assert wanted(records) == [index for index, reason in enumerate(reasons) if reason is None]


def test_of_faces_of_one_size_the_first_are_enhanced():
    assert wanted(choose(faces(5, 5, 5), None, Limits(0, 9, 2))) == [0, 1]
    assert wanted(choose(faces(5, 5, 5), None, Limits(0, 9, 0))) == []


def test_a_reason_is_text_to_programs():
    assert json.dumps(Reason.TOO_SMALL) == '"too_small"' and Reason("surplus") is Reason.SURPLUS
    assert pickle.loads(pickle.dumps(Reason.SURPLUS)) is Reason.SURPLUS
    assert Reason.SURPLUS.sentence(limit=1_000_000) == "not among the 1000000 largest (max_faces)"


def test_a_bad_choice_has_an_error_of_its_own():
    assert issubclass(FaceChoiceError, ValueError)
    assert choices(None, 2) == [None, None] and choices([[0], []], 2) == [[0], []]
    with pytest.raises(FaceChoiceError, match="only_faces must hold one list per picture, 2; got 1"):
        choices([[0]], 2)
    with pytest.raises(FaceChoiceError, match="only_faces asks for face 3 of a picture with 2"):
        choose(faces(1, 2), [0, 3], ANY)
    with pytest.raises(FaceChoiceError, match="only_faces asks for face -1"):
        choose(faces(1, 2), [-1], ANY)


def test_the_detector_is_told_the_smallest_face():
    asked = []

    def detect(pixels, threshold, smallest, on_look):
        asked.append((threshold, smallest))
        return FaceDetections(torch.zeros(0, 4), torch.zeros(0, 5, 2), torch.zeros(0))

    found, transforms = find_faces(SimpleNamespace(detect=detect), torch.zeros(3, 8, 8), 16, 0.6, min_size=48)
    assert asked == [(0.6, 32)]  # the box of a face is two thirds as high as its crop
    assert found == [] and transforms.shape == (0, 2, 3)
