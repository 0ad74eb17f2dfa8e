"""The parts that CodeFormer and RestoreFormer share."""

import pytest
import torch
import torch.nn.functional as F

from hf_faceenh.models.costs import multiply_accumulates
from hf_faceenh.models.vqgan import Upsample


def one_after_the_other(layer, maps):
    return layer.conv(F.interpolate(maps, scale_factor=2, mode="nearest"))


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return Upsample(5)


@pytest.fixture
def maps():
    return torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1))


def test_upscaling_and_convolution_at_once(layer, maps):
    for _ in range(2):
        torch.testing.assert_close(layer(maps), one_after_the_other(layer, maps))
        with torch.no_grad():
            layer.conv.weight.neg_()  # new weights count from the next call on


def test_gradients_at_once(layer, maps):
    wanted, found = (
        torch.autograd.grad(way(maps).square().sum(), list(layer.parameters()))
        for way in (lambda maps: one_after_the_other(layer, maps), layer)
    )
    torch.testing.assert_close(found, wanted)


def test_upscaling_takes_four_of_nine_multiply_accumulates(layer):
    assert multiply_accumulates(layer, (1, 5, 8, 8)) == 4 * 16 * 16 * 5 * 5


@pytest.mark.parametrize("how", ["autocast", "converted"])
def test_sums_of_weights_are_not_rounded_to_half_precision(layer, maps, how):
    half = layer.to(torch.bfloat16) if how == "converted" else layer
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        sample = maps.bfloat16()
        assert torch.equal(half(sample), one_after_the_other(half, sample))
