"""What the pipeline shows to the enhancer."""

import pytest
import torch
import torch.nn.functional as F

from hf_faceenh import SuperResolver
from hf_faceenh.learning.pipeline_input import PipelineInput
from hf_faceenh.serialization import BUNDLED


@pytest.fixture(scope="module")
def super_resolver():
    return SuperResolver.from_pretrained(BUNDLED / "super_resolver", torch_dtype=torch.float32)


@pytest.fixture(scope="module")
def small():
    """Two faces of 16 px, smooth and clear of the ends of the range, so that nothing is clamped."""
    torch.manual_seed(0)
    return F.interpolate(torch.rand(2, 3, 4, 4) - 0.5, (16, 16), mode="bicubic") / 2


def test_a_face_becomes_the_mean_of_itself_and_its_super_resolved_self(super_resolver, small):
    lq = F.interpolate(small, (64, 64), mode="bicubic")
    seen = PipelineInput(super_resolver, share=1, seed=0)(lq, [16, 16], number=0)
    with torch.no_grad():
        large = super_resolver((small + 1) / 2).sample * 2 - 1
    expected = (lq + F.interpolate(large, (64, 64), mode="bicubic")) / 2
    assert (seen - expected).abs().max() < 0.02  # the small face comes back from the large one but for a rounding
    assert (expected - lq).abs().max() > 0.02


def test_a_share_of_the_faces_is_drawn_anew_for_every_batch(super_resolver, small):
    lq = F.interpolate(small, (64, 64), mode="bicubic").repeat(8, 1, 1, 1)
    means = PipelineInput(super_resolver, share=0.5, seed=0)

    def changed(number):
        return (means(lq, [16, 24] * 8, number) != lq).flatten(1).any(dim=1).tolist()

    draws = [changed(number) for number in range(4)]
    assert 16 < sum(map(sum, draws)) < 48
    assert draws[0] != draws[1]
    assert draws[0] == changed(0)
