"""The sharp face in another light."""

import numpy as np
import pytest

from hf_faceenh.learning.data import FacePairs, Relighting
from hf_faceenh.learning.degradation import GREY, TYPES, Degradation

PLAIN = {"share": 0, "grey": 0, "toned": 0}


@pytest.fixture(scope="module")
def face():
    y, x = np.mgrid[:64, :64]
    return np.stack([120 + x, 90 + y, 70 + (x + y) // 2], axis=2).astype(np.uint8)


def relit(face, count=40, **settings):
    return [Relighting(**settings)(face, np.random.default_rng(seed)).astype(float) for seed in range(count)]


def test_without_any_share_the_face_stays(face):
    assert all((one == face).all() for one in relit(face, 8, **PLAIN))


def test_light_is_colder_and_warmer_lighter_and_darker_but_moderately(face):
    faces = relit(face, share=1, grey=0, toned=0)
    warmth = (
        np.array([one[..., 0].mean() - one[..., 2].mean() for one in faces])
        - (face[..., 0] - 1.0 * face[..., 2]).mean()
    )
    brightness = np.array([(one @ GREY).mean() for one in faces]) - (face @ GREY).mean()
    for change in (warmth, brightness):
        assert change.min() < -4 and change.max() > 4 and np.abs(change).max() < 60
    assert len({one.tobytes() for one in faces}) == len(faces)


def test_light_from_a_side_makes_one_side_brighter():
    grey = np.full((64, 64, 3), 128, np.uint8)
    still = {"share": 1, "temperature": 0, "hue": 0, "saturation": 0, "gamma": 0, "grey": 0, "toned": 0}
    for one in relit(grey, 8, **still, side_light=1):
        assert 12 < np.ptp(one) < 90 and np.abs(np.diff(one, axis=0)).max() < 4
    assert all((one == grey).all() for one in relit(grey, 8, **still, side_light=0))


@pytest.mark.parametrize("kind", ["grey", "toned"])
def test_grey_and_toned_pairs_are_so_on_both_sides(face, kind):
    """A grey face stays grey when it is degraded, but for coloured noise and casts."""
    harmless = {kind: 0 for kind in TYPES} | {"blur": 1, "downsample": 1}
    pairs = FacePairs(Degradation(probabilities=harmless), 64, relight=Relighting(**PLAIN | {kind: 1}))
    for seed in range(8):
        pair = pairs(face, seed)
        for pixels in (pair["hq"].astype(int), pair["lq"].astype(int)):
            if kind == "grey":
                assert (pixels == pixels[..., :1]).all()
            else:
                assert 5 < np.abs(pixels[..., 0] - pixels[..., 2]).mean() < 90


def test_a_few_are_grey_and_fewer_toned(face):
    faces = relit(face, 600, share=0)
    grey = sum((one == one[..., :1]).all() for one in faces)
    other = sum((one != face).any() for one in faces) - grey
    assert 18 < grey < 60 and 6 < other < 36
