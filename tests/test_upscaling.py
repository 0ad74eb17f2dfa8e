"""How a picture or a face reaches a factor."""

import numpy as np
import pytest
import torch
from PIL import Image

from hf_faceenh import SuperResolver
from hf_faceenh.upscaling import ShownFaces, Upscaler, bicubic


@pytest.mark.parametrize("upscale", [1, 2, 4])
def test_tiles_do_not_show(bundled, astronaut, upscale):
    photo = Image.open(astronaut).convert("RGB")
    pixels = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1)[:, :230, :260] / 255
    whole, tiled = (Upscaler(bundled.super_resolver, size)(pixels, upscale) for size in (512, 176))
    torch.testing.assert_close(whole, tiled, atol=1e-4 if upscale < 4 else 2e-4, rtol=0)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_without_a_super_resolver_it_is_bicubic(factor):
    pixels = torch.rand(3, 9, 11)
    upscaler = Upscaler(None, 64)
    assert upscaler.tile_count(9, 11, factor) == 0
    result = upscaler(pixels, factor)
    assert result.shape == (3, 9 * factor, 11 * factor) and result.min() >= 0 and result.max() <= 1
    torch.testing.assert_close(result, bicubic(pixels, factor))
    assert result.data_ptr() != pixels.data_ptr()  # what is fused in place is never the input


@pytest.mark.parametrize(
    "scale, scales, passes",
    [
        (1, None, [[1], [1], [1]]),
        (2, None, [[2], [2], [2, 2]]),
        (4, None, [[4], [4], [4]]),
        (2, (2, 4), [[2], [2], [4]]),
    ],
)
def test_as_many_passes_as_it_takes(scale, scales, passes):
    upscaler = Upscaler(SuperResolver("cells", scale, num_feat=4, num_block=1, scales=scales), 64)
    assert [upscaler.passes(factor) for factor in (1, 2, 4)] == passes


@torch.no_grad()
def test_the_wanted_amount_of_denoising_reaches_the_network():
    torch.manual_seed(0)
    model, pixels = SuperResolver("cells", 2, num_feat=4, num_block=1, denoising=True), torch.rand(3, 20, 20)
    kept, removed, default = (Upscaler(model, 64, amount)(pixels, 2) for amount in (0.0, 1.0, None))
    assert torch.equal(removed, default) and not torch.equal(kept, removed)
    torch.testing.assert_close(kept, model(pixels[None], denoise=0.0).sample[0].clamp(0, 1))


@torch.no_grad()
def test_on_tile_is_told_the_begin_and_every_tile():
    calls = []
    upscaler = Upscaler(SuperResolver(scale=2, num_feat=4, num_conv=1), 64)
    upscaler(torch.rand(3, 80, 40), 2, lambda *call: calls.append(call))
    total = upscaler.tile_count(80, 40, 2)
    assert total == 2 and calls == [(0, 2), (1, 2), (2, 2)]


def test_a_face_is_made_when_asked_for_at_the_size_at_which_it_is_shown():
    made = []
    transforms = torch.tensor([[[scale, 0, 0], [0, scale, 0]] for scale in (2.0, 1.0, 0.5, 0.1)])
    faces = [torch.rand(3, 8, 8) for _ in transforms]
    shown = ShownFaces(faces.__getitem__, transforms, 2, Upscaler(None, 64), lambda: made.append(1))
    assert len(shown) == 4 and not made
    assert [shown[index].shape[-1] for index in range(4)] == [8, 16, 32, 32] and len(made) == 4
    assert shown[0] is faces[0]  # it is clean: nothing is left to do
