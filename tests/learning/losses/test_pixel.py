import math

import pytest
import torch

from hf_faceenh.learning.losses import (
    charbonnier,
    relative_l1,
    relative_l2,
)


def test_relative_l1_is_zero_for_the_input_and_the_same_share_on_every_face():
    hq = torch.zeros(2, 3, 8, 8)
    lq = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.8)])  # a mild and a severe one
    assert relative_l1(lq, hq, lq).item() == pytest.approx(0, abs=1e-6)
    halves = [relative_l1(lq[i : i + 1] / 2, hq[i : i + 1], lq[i : i + 1], floor=0).item() for i in (0, 1)]
    assert halves == pytest.approx([math.log(0.5)] * 2)


def test_relative_l1_weighs_harm_on_a_good_face_against_gain_on_a_bad_one():
    hq = torch.zeros(2, 3, 8, 8)
    lq = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.8)])
    smoothing = torch.stack([lq[0] * 2, lq[1] * 0.7])  # lowers the absolute error, ruins the good face
    assert (smoothing - hq).abs().mean() < (lq - hq).abs().mean()
    assert relative_l1(smoothing, hq, lq) > 0


def test_charbonnier_is_l1_that_is_smooth_at_zero():
    hq = torch.zeros(1, 3, 4, 4)
    enhanced = hq.clone().requires_grad_(True)
    charbonnier(enhanced, hq).backward()
    assert charbonnier(hq, hq).item() == pytest.approx(0, abs=1e-9) and enhanced.grad.abs().max() == 0
    assert charbonnier(hq + 0.5, hq).item() == pytest.approx(0.5 - 1e-3, abs=1e-5)
    assert charbonnier(hq + 1e-4, hq).item() == pytest.approx(1e-4**2 / 2e-3, rel=0.01)  # a parabola near 0


def test_relative_l2_is_the_gain_in_psnr():
    torch.manual_seed(0)
    hq = torch.rand(2, 3, 8, 8) * 2 - 1
    noise = torch.randn_like(hq)
    gain = relative_l2(hq + 0.2 * noise, hq, hq + 0.4 * noise, floor=0)
    assert gain.item() == pytest.approx(math.log(0.5), abs=1e-4)  # 6 dB
    assert relative_l2(hq, hq, hq).isfinite()
