"""Tiles give the same result as the whole picture."""

import pytest
import torch

from hf_faceenh.models.super_resolver import SuperResolver
from hf_faceenh.tiling import tiled


def network_of(architecture, scale):
    torch.manual_seed(0)
    model = SuperResolver(architecture, scale, num_feat=4, num_conv=3, num_block=1, num_grow_ch=2).eval()
    return model, lambda sample: model(sample, return_dict=False)[0]


@pytest.mark.parametrize("architecture, scale", [("compact", 1), ("compact", 4), ("rrdb", 2)])
@pytest.mark.parametrize("more", [0, 3])
@torch.no_grad()
def test_equals_the_untiled_result(architecture, scale, more):
    model, network = network_of(architecture, scale)
    overlap = model.receptive_radius + more
    tile_size = 4 * overlap + 5
    picture = torch.rand(3, 2 * tile_size + 7, tile_size + 3)
    result = tiled(network, picture, scale, tile_size, overlap)
    torch.testing.assert_close(result, network(picture[None])[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_every_size_around_a_tile_boundary():
    model, network = network_of("compact", 2)
    for width in range(20, 60, 3):
        picture = torch.rand(3, 21, width)
        result = tiled(network, picture, 2, tile_size=25, overlap=model.receptive_radius)
        torch.testing.assert_close(result, network(picture[None])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale, tile_size, overlap", [(1, 16, 0), (2, 24, 4), (4, 37, 7)])
def test_weights_sum_to_one(scale, tile_size, overlap):
    def ones(sample):
        return torch.ones(1, 3, sample.shape[2] * scale, sample.shape[3] * scale)

    result = tiled(ones, torch.rand(3, 83, 70), scale, tile_size, overlap)
    assert result.shape == (3, 83 * scale, 70 * scale)
    torch.testing.assert_close(result, torch.ones_like(result), atol=1e-6, rtol=0)


def test_disagreeing_tiles_are_blended_without_a_step():
    values = iter(range(2))
    result = tiled(lambda sample: torch.full_like(sample, next(values)), torch.zeros(3, 8, 56), 1, 40, 8)
    steps = result[0, 0].diff()
    assert result[0, 0, 0] == 0 and result[0, 0, -1] == 1
    assert steps.min() >= 0 and steps.max() <= 1 / 8 + 1e-6


def test_a_picture_no_larger_than_a_tile_is_one_call():
    calls = []
    result = tiled(lambda sample: calls.append(sample.shape) or sample * 2, torch.ones(3, 31, 32), 1, 32, 4)
    assert calls == [(1, 3, 31, 32)]
    torch.testing.assert_close(result, torch.full((3, 31, 32), 2.0))


def test_on_tile_counts_and_cancels():
    calls = []
    tiled(lambda sample: sample, torch.rand(3, 40, 70), 1, 24, 2, on_tile=lambda *state: calls.append(state))
    total = calls[0][1]
    assert total > 1 and calls == [(done, total) for done in range(1, total + 1)]

    def cancel(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiled(lambda sample: sample, torch.rand(3, 40, 70), 1, 24, 2, on_tile=cancel)


def test_picture_and_dtype_are_kept():
    picture = torch.rand(3, 40, 70).to(torch.bfloat16)
    before = picture.clone()
    assert tiled(lambda sample: sample, picture, 1, 24, 2).dtype == torch.bfloat16
    assert torch.equal(picture, before)


@pytest.mark.parametrize(
    "shape, tile_size, overlap, words", [((1, 3, 8, 8), 64, 4, "one picture"), ((3, 8, 8), 35, 8, "at least")]
)
def test_bad_input(shape, tile_size, overlap, words):
    with pytest.raises(ValueError, match=words):
        tiled(lambda sample: sample, torch.rand(shape), 1, tile_size, overlap)
