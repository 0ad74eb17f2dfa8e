import shutil

import numpy as np
import pytest
from batches import SIDE, picture

from hf_faceenh.learning import degradation
from hf_faceenh.learning.data import FacePairs, fixed_pairs, load_faces
from hf_faceenh.learning.degradation import TYPES, Degradation


@pytest.fixture(scope="module")
def face():
    """A picture with smooth and with sharp parts, `[96, 96, 3]` uint8."""
    y, x = np.mgrid[:96, :96]
    checks = (x // 8 + y // 8) % 2 * 60
    return np.stack([x * 2 + checks, y * 2 + checks, checks + 90], axis=2).astype(np.uint8)


def error(a, b):
    return np.abs(a.astype(float) - b.astype(float)).mean()


def test_pairs_are_aligned_and_seeded(face):
    pairs = FacePairs(Degradation(), sample_size=64)
    pair = pairs(face, seed=(0, 7))
    assert pair["hq"].shape == pair["lq"].shape == (64, 64, 3)
    assert pair["hq"].dtype == pair["lq"].dtype == np.uint8
    np.testing.assert_array_equal(pair["lq"], pairs(face, seed=(0, 7))["lq"])
    # the degraded face is of the very same crop: nearer to it than to another draw's
    assert error(pair["lq"], pair["hq"]) < error(pair["lq"], pairs(face, seed=(0, 8))["hq"])


def test_without_jitter_the_sharp_face_is_the_face_or_its_mirror_image(face):
    pairs = FacePairs(Degradation(), sample_size=96, shift=0, scale=0, rotation=0, relight=None)
    seen = set()
    for seed in range(8):
        hq = pairs(face, seed)["hq"]
        errors = [error(hq, face), error(hq, face[:, ::-1])]
        assert min(errors) < 0.01
        seen.add(int(np.argmin(errors)))
    assert seen == {0, 1}


def test_the_side_is_the_one_that_the_degraded_face_was_upscaled_from(face):
    for seed in range(6):
        pair = FacePairs(Degradation({"downsample": 0.5}, {"downsample": 1, "second": 0}), sample_size=96)(face, seed)
        assert pair["side"] == round(96 / 3 ** pair["tags"][list(TYPES).index("downsample")])
    assert FacePairs(Degradation(probabilities={"downsample": 0, "second": 0}), sample_size=96)(face, 0)["side"] == 96


def test_fixed_pairs_are_seeded_cached_pictures(with_broken, tmp_path):
    source = tmp_path / "faces"
    shutil.copytree(with_broken, source)
    faces = load_faces(str(source))
    pairs = fixed_pairs(faces, Degradation(), SIDE, seed=1)
    assert pairs.column_names == ["hq", "lq"] and len(pairs) == 8  # without the broken ones
    assert pairs[0]["hq"].size == pairs[0]["lq"].size == (SIDE, SIDE) and pairs[0]["hq"].mode == "RGB"
    sharp = degradation.resize(picture(0), (SIDE, SIDE))
    np.testing.assert_array_equal(pairs[0]["hq"], sharp)
    np.testing.assert_array_equal(pairs[0]["lq"], Degradation()(sharp, np.random.default_rng((1, 0))))

    with pytest.MonkeyPatch.context() as patch:  # the second time, nothing is degraded
        patch.setattr(Degradation, "__call__", lambda *_: pytest.fail("not from the cache"))
        again = fixed_pairs(load_faces(str(source)), Degradation(), SIDE, seed=1)
    assert again.cache_files == pairs.cache_files != []
    np.testing.assert_array_equal(again[3]["lq"], pairs[3]["lq"])

    for other in (
        fixed_pairs(faces, Degradation(), SIDE, seed=2),
        fixed_pairs(faces, Degradation({"noise": 0.1}), SIDE, seed=1),
    ):
        assert other.cache_files != pairs.cache_files
        assert any(
            np.any(np.asarray(one["lq"]) != np.asarray(two["lq"])) for one, two in zip(other, pairs, strict=True)
        )
