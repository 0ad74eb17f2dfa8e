from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny import tiny_enhancer
from torch import nn
from transformers import MobileNetV2Config, MobileNetV2Model

from hf_faceenh.alignment import FFHQ_TEMPLATE, crop_faces, similarity_transform
from hf_faceenh.convert import convert
from hf_faceenh.learning.identity import load_recognizer
from hf_faceenh.models import FaceRecognizer, FaceRecognizerConfig
from hf_faceenh.recognition import align_for_recognizer, check_recognizer, embed, identity_distance


def recognizer(**config) -> FaceRecognizer:
    torch.manual_seed(0)
    small = {"stem_channels": 4, "stage_channels": [4, 8], "stage_blocks": [1, 1], "embedding_size": 6}
    return FaceRecognizer(FaceRecognizerConfig(**small | config)).eval()


def with_config(**config) -> nn.Module:
    defaults = vars(FaceRecognizerConfig())
    return SimpleNamespace(config=SimpleNamespace(**defaults | config))


TURNED = [(1 - y, x) for x, y in FFHQ_TEMPLATE]  # by a quarter to the right


@pytest.mark.parametrize("template", [FaceRecognizerConfig().template, TURNED], ids=["dlib's", "turned"])
@pytest.mark.parametrize("size", [64, 256, 500, 1024])
@pytest.mark.parametrize("side", [112, 150])
def test_points_of_the_crop_come_to_the_template(template, size, side):
    position = (torch.arange(size) + 0.5) / size
    faces = []
    for x, y in FFHQ_TEMPLATE:
        spot = (-((position - x) ** 2)[None] / 0.001 - ((position - y) ** 2)[:, None] / 0.001).exp()
        faces.append((2 * spot - 1).expand(3, size, size))
    aligned = align_for_recognizer(torch.stack(faces), with_config(template=template, image_size=side))
    assert aligned.shape == (5, 3, side, side)
    weight = aligned[:, 0]
    place = (torch.arange(side) + 0.5) / side
    found = torch.stack([weight.sum(dim=1) @ place, weight.sum(dim=2) @ place], dim=1)
    torch.testing.assert_close(found / weight.sum(dim=(1, 2))[:, None], torch.tensor(template), atol=0.004, rtol=0)


@pytest.mark.parametrize(("value_range", "expected"), [((0, 1), 0.75), ((-1, 1), 0.5), ((0, 255), 191.25)])
def test_values_are_in_the_recognizers_range(value_range, expected):
    aligned = align_for_recognizer(torch.full((1, 3, 64, 64), 0.5), with_config(value_range=value_range))
    torch.testing.assert_close(aligned, torch.full((1, 3, 150, 150), expected), atol=1e-4, rtol=1e-5)


def test_a_large_crop_does_not_alias():
    stripes = (torch.arange(1024) % 2 * 2.0 - 1).expand(1, 3, 1024, 1024)
    aligned = align_for_recognizer(stripes, with_config())
    torch.testing.assert_close(aligned, torch.full_like(aligned, 0.5), atol=1e-4, rtol=0)


def test_gradient_reaches_the_enhanced_face():
    model = recognizer().requires_grad_(False)
    a, b = torch.rand(2, 2, 3, 40, 40) * 2 - 1
    a.requires_grad_()
    (gradient,) = torch.autograd.grad(identity_distance(model, a, b).sum(), a)
    step = 0.05 * gradient / gradient.norm()
    with torch.no_grad():
        rise = (identity_distance(model, a + step, b) - identity_distance(model, a - step, b)).sum() / 2
    torch.testing.assert_close(rise, 0.05 * gradient.norm(), rtol=0.05, atol=0)
    assert gradient[:, :, 10:30, 10:30].abs().min() > 0  # no pixel that the recognizer sees is left out
    same = a.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(identity_distance(model, same, same.detach()).sum(), same)
    assert gradient.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_distance_is_the_configs(distance):
    model = recognizer(distance=distance)
    a, b = torch.rand(2, 3, 3, 64, 64) * 2 - 1
    first, second = embed(model, a), embed(model, b)
    expected = (first - second).norm(dim=1) if distance == "euclidean" else 1 - F.cosine_similarity(first, second)
    torch.testing.assert_close(identity_distance(model, a, b), expected)
    torch.testing.assert_close(identity_distance(model, b, a), expected)
    torch.testing.assert_close(identity_distance(model, a, a), torch.zeros(3), atol=1e-6, rtol=0)


@torch.no_grad()
def test_size_of_the_crop_hardly_matters():
    model = recognizer()
    blobs = F.interpolate(torch.rand(4, 3, 6, 6) * 2 - 1, size=(512, 512), mode="bicubic").clamp(-1, 1)
    small = F.interpolate(blobs, size=(256, 256), mode="area")
    between = torch.pdist(embed(model, blobs)).min()
    assert identity_distance(model, blobs, small).max() < 0.05 * between


def test_check_recognizer_names_what_is_wrong():
    check_recognizer(recognizer())
    for wrong, message in (
        (tiny_enhancer(16), "FaceEnhancer is no face recognizer: its config lacks image_size, value_range"),
        (nn.Conv2d(3, 3, 1), "Conv2d is no face recognizer"),
        (with_config(distance="manhattan"), "one of euclidean, cosine; got 'manhattan'"),
        (with_config(template=[(0.5, 0.5)]), "must hold five points"),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            check_recognizer(wrong)
        assert "\n" not in str(raised.value)


def test_load_recognizer(tmp_path):
    recognizer(distance="cosine").save_pretrained(tmp_path / "good")
    loaded = load_recognizer(tmp_path / "good")
    assert loaded.config.distance == "cosine" and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    recognizer(stage_blocks=[1, 2]).config.save_pretrained(tmp_path / "good")  # a block more than there are weights
    MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25)).save_pretrained(tmp_path / "other")
    tiny_enhancer(16).save_pretrained(tmp_path / "enhancer")
    (tmp_path / "file.dat").write_bytes(b"")
    for name, message in {
        "good": "lacks weights of its FaceRecognizer: stages.1.1",
        "other": "MobileNetV2Model is no face recognizer",
        "enhancer": "holds no face recognizer that can be loaded",
        "file.dat": "hf-faceenh convert",
        "none/at/all": "neither a folder nor on the Hub",
    }.items():
        with pytest.raises((ValueError, OSError), match=message) as raised:
            load_recognizer(tmp_path / name)
        assert "\n" not in str(raised.value)


@torch.no_grad()
def test_agrees_with_dlibs_own_way_from_photograph_to_embedding(astronaut, bundled, dlib_files, tmp_path):
    dlib = pytest.importorskip("dlib")
    published = dlib_files / "dlib_face_recognition_resnet_model_v1.dat"
    model = load_recognizer(convert(published, tmp_path / "recognizer"))
    reference = dlib.face_recognition_model_v1(str(published))
    find_points = dlib.shape_predictor(str(dlib_files / "shape_predictor_5_face_landmarks.dat"))
    sharp = Image.open(astronaut).convert("RGB")
    box = max(dlib.get_frontal_face_detector()(np.array(sharp)), key=lambda box: box.area())
    points = find_points(np.array(sharp), box)

    def of_dlib(picture):
        return torch.tensor(
            reference.compute_face_descriptor(dlib.get_face_chip(np.array(picture), points, 150, 0.25))
        )

    pixels = torch.from_numpy(np.array(sharp)).permute(2, 0, 1) / 255
    landmarks = bundled.detector.detect(pixels).landmarks[:1]
    transform = similarity_transform(landmarks, torch.tensor(bundled.detector.config.template) * 256)

    def of_ours(picture):
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
        return crop_faces(pixels, transform, 256) * 2 - 1

    assert (embed(model, of_ours(sharp))[0] - of_dlib(sharp)).norm() < 0.3  # 0.6 would be another person
    for side in (128, 64):
        coarse = sharp.resize((side, side), Image.Resampling.BOX).resize(sharp.size, Image.Resampling.BICUBIC)
        expected = (of_dlib(coarse) - of_dlib(sharp)).norm()
        assert abs(identity_distance(model, of_ours(coarse), of_ours(sharp)).item() - expected) < 0.06
