"""Whether an enhanced face is still of the same person, and what happens where it is not."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.data import lfw_subset
from tiny import tiny_enhancer, tiny_parser, tiny_pipeline
from torch import nn

import hf_faceenh
from hf_faceenh import FaceEnhancer
from hf_faceenh.faces import Reason
from hf_faceenh.likeness import IDENTITY_LIMIT, in_words, keep_likeness
from hf_faceenh.models import FaceRecognizerConfig
from hf_faceenh.models.face_network import FaceEnhancerOutput


class Brightness(nn.Module):
    """A recognizer to which a face is how bright it is."""

    config = FaceRecognizerConfig()
    dtype = torch.float32

    def forward(self, pixel_values):
        return SimpleNamespace(embeddings=pixel_values.mean(dim=(1, 2, 3))[:, None])


class Always(FaceEnhancer):
    """An enhancer that returns the same face, whatever it sees."""

    face: torch.Tensor  # [3, S, S] in [-1, 1]

    def forward(self, sample, return_features=False, return_dict=True):
        return FaceEnhancerOutput(sample=self.face.expand_as(sample))


def always(face):
    config = {key: value for key, value in tiny_enhancer().config.items() if not key.startswith("_")}
    enhancer = Always(**config)
    enhancer.face = face
    return enhancer


@pytest.fixture(scope="module")
def photo(astronaut):
    return Image.open(astronaut).convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)


@pytest.fixture(scope="module")
def another(bundled):
    """A pipeline that makes one man of everybody."""
    man = torch.from_numpy(lfw_subset()[3]).float().expand(1, 3, -1, -1)  # 25×25 px, cut out closely
    man = F.interpolate(2 * man - 1, size=(140, 140), mode="bicubic").clamp(-1, 1)
    (man,) = F.pad(man, (58, 58, 66, 50), mode="replicate")  # eyes, nose and mouth come where the layout has them
    return tiny_pipeline(bundled, enhancer=always(man), parser=tiny_parser(), recognizer=bundled.recognizer)


def as_array(image):
    return np.asarray(image).astype(int)


@torch.no_grad()
def test_the_strength_is_lowered_step_by_step():
    crops = torch.zeros(5, 3, 64, 64)
    faces = torch.tensor([0.1, 0.3, 0.5, 0.9, 1.0])[:, None, None, None].expand_as(crops)
    masks = torch.ones(5, 1, 64, 64)
    strengths = [1.0, 1.0, 1.0, 0.5, 0.0]
    kept = keep_likeness(Brightness(), crops, faces, masks, strengths, limit=0.215)
    assert [one.strength for one in kept] == pytest.approx([1, 0.7, 0.4, 0.4 * 0.5, 0])
    assert [one.distance for one in kept] == pytest.approx([0.1, 0.21, 0.2, 0.18, 0], abs=1e-5)
    assert [one.first for one in kept] == pytest.approx([0.1, 0.3, 0.5, 0.45, 0], abs=1e-5)


@torch.no_grad()
def test_where_no_strength_is_small_enough_it_is_told():
    crops, masks = torch.zeros(2, 3, 64, 64), torch.ones(2, 1, 64, 64)
    faces = torch.tensor([0.05, 0.9])[:, None, None, None].expand_as(crops)
    near, far = keep_likeness(Brightness(), crops, faces, masks, [1.0, 1.0], limit=0.08)
    assert near.strength == 1 and far.strength is None and far.first == pytest.approx(0.9)
    half = keep_likeness(Brightness(), crops, faces, masks / 2, [1.0, 1.0], limit=0.08)  # what the result gets
    assert [one.first for one in half] == pytest.approx([0.025, 0.45], abs=1e-5)


def test_words_follow_the_distance():
    said = list(dict.fromkeys(in_words(distance / 100) for distance in range(151)))
    assert said[0] == "clearly the same person" and said[-1] == "looks like somebody else" and len(said) == 4
    assert in_words(IDENTITY_LIMIT) == "probably the same person"


def test_a_good_enhancer_stays_near_the_person(bundled, photo):
    (face,) = bundled(photo, upscale=1).faces[0]
    assert 0 < face.identity_distance < 0.2 and face.strength == 1 and face.held_back is None
    (gentle,) = bundled(photo, upscale=1, strength=0.3).faces[0]
    assert gentle.strength == 0.3 and gentle.identity_distance < face.identity_distance
    (alone,) = bundled(photo, upscale=1, max_faces=0).faces[0]
    assert alone.identity_distance is None and alone.strength == 0


def test_another_person_is_held_back(another, photo):
    free = another(photo, upscale=1, identity_limit=float("inf")).faces[0][0]
    assert free.identity_distance > 0.6 and free.strength == 1  # dlib: another person
    assert in_words(free.identity_distance) == "looks like somebody else"
    output = another(photo, upscale=1)
    face = output.faces[0][0]
    assert 0 < face.strength < 1 and face.identity_distance <= IDENTITY_LIMIT and face.left_alone is None
    assert f"at strength {face.strength:.2g} only" in face.held_back and "identity_limit" in face.held_back
    assert f"{free.identity_distance:.2f}" in face.held_back
    by_hand = another(photo, upscale=1, strength=face.strength, identity_limit=float("inf"))
    np.testing.assert_array_equal(as_array(output.images[0]), as_array(by_hand.images[0]))
    np.testing.assert_array_equal(face.mask, by_hand.faces[0][0].mask)


def test_another_person_is_left_alone_where_nothing_helps(another, photo):
    output, plain = another(photo, identity_limit=0.01), another(photo, max_faces=0)
    (face,) = output.faces[0]
    assert face.reason is Reason.IDENTITY and face.reason == "identity"
    assert "no longer look like the same person" in face.left_alone and "identity_limit 0.01" in face.left_alone
    assert face.enhanced is None and face.mask is None and face.strength == 0 and face.crop.size == (256, 256)
    np.testing.assert_array_equal(as_array(output.images[0]), as_array(plain.images[0]))
    # beside others, in one batch and one call
    pictures = [photo, Image.new("RGB", (60, 60)), photo]
    together = another(pictures, upscale=1, only_faces=[[0], [], []], identity_limit=0.01)
    assert [face.reason for faces in together.faces for face in faces] == [Reason.IDENTITY, Reason.NOT_CHOSEN]


@pytest.mark.parametrize("upscale", [1, 2])
def test_an_aligned_crop_too(another, photo, upscale):
    crop = another(photo, upscale=1, max_faces=0, output_type="pt").faces[0][0].crop
    free = another(crop, aligned=True, identity_limit=float("inf")).faces[0][0]
    output = another(crop, aligned=True, upscale=upscale)
    (face,) = output.faces[0]
    assert face.strength < 1 and face.identity_distance <= IDENTITY_LIMIT < free.identity_distance
    assert output.images[0].size == (256 * upscale,) * 2
    small = F.interpolate(crop[None], size=(100, 100), mode="area")[0]
    left = another(small, aligned=True, upscale=upscale, identity_limit=0)
    assert left.faces[0][0].reason is Reason.IDENTITY and left.images[0].size == (100 * upscale,) * 2


def test_without_a_recognizer_nobody_looks(tiny, photo):
    assert tiny.recognizer is None
    (face,) = tiny(photo, upscale=1).faces[0]
    assert face.identity_distance is None and face.strength == 1 and face.held_back is None
    assert tiny(photo, upscale=1, identity_limit=float("inf")).faces[0][0].identity_distance is None
    with pytest.raises(ValueError, match="no recognizer, so it cannot keep to an identity_limit") as error:
        tiny(photo, identity_limit=0.4)
    assert "\n" not in str(error.value)


def test_what_is_no_recognizer_is_refused(bundled, photo):
    with pytest.raises(ValueError, match="is no face recognizer: its config lacks"):
        tiny_pipeline(bundled, recognizer=tiny_parser())(photo)


def test_the_whole_package_stays_small():
    files = [path for path in Path(hf_faceenh.__file__).parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix != ".pyc") < 30e6  # 11 MB are the recognizer
