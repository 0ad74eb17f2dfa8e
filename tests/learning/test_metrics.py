import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import MobileNetV2Config, MobileNetV2Model

from hf_faceenh.alignment import FFHQ_TEMPLATE, crop_faces, similarity_transform, transform_points
from hf_faceenh.learning.metrics import (
    HIGHEST_PSNR,
    face_metrics,
    flat_noise,
    landmark_error,
)
from hf_faceenh.models import FaceDetections, FaceRecognizer, FaceRecognizerConfig

SIZE = 256


def noisy(face, deviation, seed=0):
    noise = np.random.default_rng(seed).normal(0, deviation, face.shape)
    return (face + noise).round().clip(0, 255).astype(np.uint8)


class Seer:
    """A detector that always sees the same landmarks `[N, 5, 2]`, best first."""

    def __init__(self, landmarks, template=FFHQ_TEMPLATE):
        self.landmarks, self.config = landmarks, SimpleNamespace(template=template)

    def detect(self, image):
        boxes = torch.cat([self.landmarks.amin(dim=1), self.landmarks.amax(dim=1)], dim=1)
        return FaceDetections(boxes, self.landmarks, torch.linspace(1, 0.5, len(boxes)))


@pytest.fixture
def blank():
    return np.full((SIZE, SIZE, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def real_face(astronaut, bundled):
    """A real face in the FFHQ layout, `[256, 256, 3]` uint8, and its landmarks."""
    image = torch.tensor(np.asarray(Image.open(astronaut).convert("RGB"))).permute(2, 0, 1) / 255
    template = torch.tensor(bundled.detector.config.template) * SIZE
    found = bundled.detector.detect(image).landmarks[:1]
    to_crop = similarity_transform(found, template)
    face = (crop_faces(image, to_crop, SIZE)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    return face, transform_points(to_crop[0], found[0]) - template + torch.tensor(FFHQ_TEMPLATE) * SIZE


@pytest.fixture(scope="module")
def recognizer():
    torch.manual_seed(0)
    return FaceRecognizer(
        FaceRecognizerConfig(image_size=40, stem_channels=4, stage_channels=[4, 8], stage_blocks=[1, 1])
    ).eval()


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25, image_size=64)).eval()


@pytest.fixture(scope="module")
def faces():
    """Ten: more than go through a recognizer at once."""
    coarse = np.random.default_rng(0).integers(60, 190, (10, 5, 5, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(c).resize((64, 64), Image.Resampling.BICUBIC)) for c in coarse]


def test_psnr_and_ssim_have_their_textbook_values(faces):
    brighter = [face + np.uint8(10) for face in faces]  # none is above 245
    values = face_metrics([*brighter, faces[0]], [*faces, faces[0]])
    assert values.keys() == {"psnr", "ssim", "noise"}
    assert values["psnr"][:-1] == pytest.approx([20 * math.log10(255 / 10)] * len(faces))
    assert values["psnr"][-1] == HIGHEST_PSNR and values["ssim"][-1] == pytest.approx(1)
    assert all(0.8 < value < 1 for value in values["ssim"][:-1])


def test_noise_is_measured_where_the_sharp_picture_is_flat():
    """Of a picture with one busy and one flat half, noise counts in the flat one only."""
    rng = np.random.default_rng(0)
    sharp = np.full((64, 128, 3), 128, np.uint8)
    sharp[:, 64:] = rng.integers(0, 256, (64, 64, 3))
    noise = np.zeros_like(sharp, dtype=np.int64)
    noise[:, 64:] = rng.normal(0, 10, (64, 64, 3))
    assert flat_noise(sharp, sharp) == 0 == flat_noise((sharp + noise).clip(0, 255).astype(np.uint8), sharp)
    noise[:, :64] = rng.normal(0, 5, (64, 64, 3)).round()
    assert flat_noise((sharp + noise).clip(0, 255).astype(np.uint8), sharp) == pytest.approx(5, rel=0.1)


def test_identity_and_perceptual_distance_are_zero_for_the_same_face_and_each_faces_own(faces, recognizer, backbone):
    enhanced = [noisy(face, 4 * index) for index, face in enumerate(faces)]
    values = face_metrics(enhanced, faces, recognizer=recognizer, backbone=backbone)
    for name in ("identity", "perceptual"):
        assert values[name][0] == pytest.approx(0, abs=1e-6)
        assert values[name][9] > values[name][2] > 0
    alone = face_metrics(enhanced[8:9], faces[8:9], recognizer=recognizer, backbone=backbone)
    for name, (value,) in alone.items():
        assert value == pytest.approx(values[name][8], rel=1e-3)


def test_a_model_of_the_wrong_kind_is_named(faces, recognizer, backbone):
    with pytest.raises(ValueError, match="MobileNetV2Model is no face recognizer"):
        face_metrics(faces, faces, recognizer=backbone)
    with pytest.raises(ValueError, match="FaceRecognizer is no perceptual backbone"):
        face_metrics(faces, faces, backbone=recognizer)


def test_each_face_needs_its_sharp_one(faces):
    with pytest.raises(ValueError, match="shorter|longer"):
        face_metrics(faces, faces[:-1])


def test_landmark_error_leaves_out_the_detectors_constant_turned_and_scaled_as_the_face_is(blank):
    template = torch.tensor(FFHQ_TEMPLATE) + 0.05 * torch.tensor([[-1, 0], [1, 0], [0, -1], [0, 1], [-1, 1]])
    turned = torch.tensor([[90.0, -40.0, 40.0], [40.0, 90.0, 10.0]])  # crop sides → px, by 24°
    landmarks = transform_points(turned, torch.tensor(FFHQ_TEMPLATE))
    seen = transform_points(turned, template)
    assert landmark_error(Seer(seen[None], template.tolist()), blank, landmarks) == pytest.approx(0, abs=1e-5)
    assert landmark_error(Seer(seen[None]), blank, landmarks) > 0.2


def test_landmark_error_is_in_eye_distances_of_the_surest_face_around_the_points(blank):
    landmarks = torch.tensor(FFHQ_TEMPLATE) * SIZE
    eyes = float((landmarks[1] - landmarks[0]).norm())
    seen = torch.stack([landmarks + SIZE, landmarks + torch.tensor([eyes / 4, 0]), landmarks])
    assert landmark_error(Seer(seen), blank, landmarks) == pytest.approx(0.25)
    assert math.isnan(landmark_error(Seer(seen[:1]), blank, landmarks))


def test_landmarks_of_a_real_face_and_of_none(real_face, blank, bundled):
    face, landmarks = real_face
    values = face_metrics([face, blank], [face, face], detector=bundled.detector, landmarks=[landmarks] * 2)
    assert values["landmarks"][0] < 0.08 and math.isnan(values["landmarks"][1])
