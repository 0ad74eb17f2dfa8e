"""How much noise the super-resolver is told to take out."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_pipeline

from hf_faceenh import SuperResolver
from hf_faceenh.denoising import check_denoise, super_resolvers_share


def cells(**config):
    torch.manual_seed(0)
    return SuperResolver("cells", 2, num_feat=4, num_block=1, **config).eval()


@pytest.mark.parametrize("denoise, grain, share", [(None, 0.25, 0.75), (0.1, None, 0.1), (0.1, 0.25, 0.1), (0, 0, 0)])
def test_with_grain_it_takes_out_what_is_not_wanted_of_it(denoise, grain, share):
    assert super_resolvers_share(noisy(5), denoise, grain, cells(denoising=True)) == share


def noisy(deviation):
    """A grey picture with noise, its deviation in 255ths."""
    noise = torch.randn(3, 256, 256, generator=torch.Generator().manual_seed(0))
    return (0.5 + deviation / 255 * noise).clamp(0, 1)


@pytest.mark.parametrize("deviation, share", [(0, 0), (1, 0), (5, 0.5), (12, 1)])
def test_by_default_it_takes_out_the_more_the_noisier_a_photograph_is(deviation, share):
    network = cells(denoising=True)
    assert super_resolvers_share(noisy(deviation), None, None, network) == pytest.approx(share, abs=0.06)


def test_a_picture_too_small_to_be_judged_keeps_what_it_has():
    assert super_resolvers_share(torch.rand(3, 12, 12), None, None, cells(denoising=True)) == 0


@pytest.mark.parametrize("network", [None, cells()])
def test_what_cannot_be_told_is_refused(network):
    assert super_resolvers_share(noisy(5), None, 0.5, network) is None
    with pytest.raises(ValueError, match="no super_resolver that takes a wanted amount of denoising"):
        check_denoise(0.5, network)


def test_the_pipeline_denoises_around_the_faces_as_much_as_is_wanted(bundled, astronaut):
    pipe = tiny_pipeline(bundled, super_resolver=cells(denoising=True))
    small = Image.open(astronaut).convert("RGB").crop((120, 20, 341, 240))

    def result(**options):
        return np.asarray(pipe(small, max_faces=0, **options).images[0])

    assert np.array_equal(result(), result(denoise=0))  # it has next to no noise
    assert not np.array_equal(result(), result(denoise=1))
    plain = result(denoise=0, restore_background=False)
    assert np.array_equal(plain, result(restore_background=False))  # nothing goes through the super-resolver
