import pytest
import torch
import torch.nn.functional as F

from hf_faceenh.learning.super_resolution import as_cells, make_super_resolver
from hf_faceenh.models.super_resolver import SuperResolver


@pytest.mark.parametrize("scale", [1, 2, 4])
@torch.no_grad()
def test_a_new_network_of_cells_begins_near_bilinear_upscaling(scale):
    torch.manual_seed(0)
    model = make_super_resolver(
        architecture="cells", scale=2, scales=(1, 2, 4), denoising=True, num_feat=8, num_block=1
    ).eval()
    picture = torch.rand(1, 3, 9, 12)
    bilinear = F.interpolate(picture, scale_factor=scale, mode="bilinear")
    near = model(picture, scale=scale).sample
    assert 0 < (near - bilinear).abs().mean() < 0.15
    for layer in model.details.values():
        torch.nn.init.zeros_(layer.weight)
    torch.testing.assert_close(model(picture, scale=scale).sample, bilinear)


@torch.no_grad()
def test_a_residual_network_goes_on_as_one_of_cells():
    """It computes the same where it does not see the rim; ×4 is the same with more pixels."""
    torch.manual_seed(0)
    residual = SuperResolver("residual", 2, num_feat=8, num_block=1).eval()
    cells = as_cells(residual, scales=(2, 4), denoising=True).eval()
    picture = torch.rand(1, 3, 32, 32)
    rim = 2 * residual.receptive_radius
    inner = (..., slice(rim, -rim), slice(rim, -rim))
    torch.testing.assert_close(cells(picture).sample[inner], residual(picture).sample[inner])
    torch.testing.assert_close(cells(picture, denoise=0).sample, cells(picture, denoise=1).sample)
    smooth = F.interpolate(torch.rand(1, 3, 4, 4), (32, 32), mode="bilinear")
    four = F.avg_pool2d(cells(smooth, scale=4).sample, 2)
    torch.testing.assert_close(four, cells(smooth).sample, atol=0.02, rtol=0)
