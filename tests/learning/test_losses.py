import math

import pytest
import torch
from transformers import MobileNetV2Config, MobileNetV2Model

from hf_faceenh.learning.losses import PerceptualLoss, relative_l1


def test_relative_l1_is_zero_for_the_input_and_the_same_share_on_every_face():
    hq = torch.zeros(2, 3, 8, 8)
    lq = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.8)])  # a mild and a severe one
    assert relative_l1(lq, hq, lq).item() == pytest.approx(0, abs=1e-6)
    halves = [relative_l1(lq[i : i + 1] / 2, hq[i : i + 1], lq[i : i + 1], floor=0).item() for i in (0, 1)]
    assert halves == pytest.approx([math.log(0.5)] * 2)


def test_relative_l1_weighs_harm_on_a_good_face_against_gain_on_a_poor_one():
    hq = torch.zeros(2, 3, 8, 8)
    lq = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.8)])
    smoothing = torch.stack([lq[0] * 2, lq[1] * 0.7])  # lowers the absolute error, ruins the good face
    assert (smoothing - hq).abs().mean() < (lq - hq).abs().mean()
    assert relative_l1(smoothing, hq, lq) > 0


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("backbone")
    MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25, image_size=64)).save_pretrained(folder)
    return str(folder)


def test_perceptual_loss_is_zero_for_equal_faces_and_grows_with_blur(backbone):
    loss = PerceptualLoss(backbone)
    torch.manual_seed(0)
    hq = torch.rand(2, 3, 64, 64) * 2 - 1
    blurred = [torch.nn.functional.avg_pool2d(hq, k, 1, k // 2, count_include_pad=False) for k in (3, 7)]
    assert loss(hq, hq).item() == 0
    assert 0 < loss(blurred[0], hq) < loss(blurred[1], hq)


def test_perceptual_loss_trains_the_faces_not_the_backbone(backbone):
    loss = PerceptualLoss(backbone)
    enhanced = torch.zeros(1, 3, 64, 64, requires_grad=True)
    loss(enhanced, torch.rand(1, 3, 64, 64)).backward()
    assert enhanced.grad.abs().sum() > 0
    assert all(p.grad is None for p in loss.parameters())
