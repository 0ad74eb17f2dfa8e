from functools import partial

import numpy as np
import pytest

from hf_faceenh.learning import degradation
from hf_faceenh.learning.degradation import TYPES, Degradation


@pytest.fixture(scope="module")
def face():
    """A picture with smooth and with sharp parts, `[96, 96, 3]` uint8."""
    y, x = np.mgrid[:96, :96]
    checks = (x // 8 + y // 8) % 2 * 60
    picture = np.stack([x * 2 + checks, y * 2 + checks, checks + 90], axis=2)
    return picture.astype(np.uint8)


def error(a, b):
    return np.abs(a.astype(float) - b.astype(float)).mean()


@pytest.mark.parametrize("kind", TYPES)
def test_strength_0_is_harmless_and_strength_1_is_worse_than_a_half(face, kind):
    image = face.astype(np.float32) / 255

    def damage(strength):
        errors = []
        for seed in range(12):
            lq = TYPES[kind](image, strength, np.random.default_rng(seed))
            lq = degradation.cv2.resize(lq, image.shape[1::-1], interpolation=degradation.cv2.INTER_CUBIC)
            errors.append(error(lq, image))
        return np.mean(errors)

    assert damage(0) < 0.02  # what the best JPEG quality costs
    assert damage(0) < damage(0.5) < damage(1)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_returns_floats_in_range_and_leaves_its_input_alone(face, kind):
    image = face.astype(np.float32) / 255
    for seed in range(8):
        lq = TYPES[kind](image, 1.0, np.random.default_rng(seed))
        assert lq.dtype == np.float32 and lq.min() >= 0 and lq.max() <= 1 and lq.shape[2] == 3
    np.testing.assert_array_equal(image, face.astype(np.float32) / 255)


def test_same_seed_same_picture_other_seed_another(face):
    degrade = Degradation()
    first, again, other = (degrade(face, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert error(first, other) > 0.5


def test_lower_coefficients_give_milder_pictures(face):
    def mean_error(coefficient):
        degrade = Degradation(dict.fromkeys(TYPES, coefficient))
        return np.mean([error(degrade(face, np.random.default_rng(seed)), face) for seed in range(20)])

    assert mean_error(0.2) < mean_error(0.6) < mean_error(1.0)


def test_one_types_setting_does_not_change_the_others_draws(face):
    """The reduced size depends on the down-sampling's strength alone."""
    sizes = []
    for noise in (0.0, 1.0):
        seen = []

        def spy(image, strength, rng, seen=seen):
            seen.append(strength)
            return image

        original, TYPES["downsample"] = TYPES["downsample"], spy
        try:
            Degradation(probabilities={"noise": noise, "downsample": 1.0})(face, np.random.default_rng(3))
        finally:
            TYPES["downsample"] = original
        sizes.append(seen)
    assert sizes[0] == sizes[1] != []


def test_unknown_type_or_value_is_refused():
    with pytest.raises(ValueError, match="'snow'"):
        Degradation({"snow": 0.5})
    with pytest.raises(ValueError, match="'blur': 1.5"):
        Degradation({"blur": 1.5})


def test_a_large_kernels_rounding_leaves_nothing_below_0():
    """At 256 px an anisotropic kernel has more than 11 × 11 places: OpenCV takes a Fourier transform, which leaves
    about -1e-8 on black, and Poisson-like noise takes the root of it."""
    image = np.zeros((256, 256, 3), np.float32)
    image[64:128, 64:192] = 1
    for seed in range(12):
        blurred = TYPES["blur"](image, 1.0, np.random.default_rng(seed))
        assert blurred.min() >= 0 and blurred.max() <= 1
        assert not np.isnan(TYPES["noise"](blurred, 1.0, np.random.default_rng(seed))).any()


def test_tags_are_the_strengths_that_were_applied(face):
    seen = dict.fromkeys(TYPES, 0.0)
    coefficients = dict(zip(TYPES, (0.1, 0.3, 0.5, 0.7, 0.9), strict=True))

    def spy(kind, image, strength, rng):
        seen[kind] = strength
        return image

    degrade = Degradation(probabilities=dict.fromkeys(TYPES, 1) | {"blur": 0})
    with pytest.MonkeyPatch.context() as patch:
        for kind in TYPES:
            patch.setitem(TYPES, kind, partial(spy, kind))
        _, tags, _ = degrade.with_tags(face, np.random.default_rng(1), coefficients)
    np.testing.assert_allclose(tags, list(seen.values()), rtol=1e-6)
    assert tags.dtype == np.float32 and tags.shape == (len(TYPES),)
    assert tags[1] == 0 < tags[2] <= 0.5
    np.testing.assert_array_equal(
        degrade(face, np.random.default_rng(3)), degrade.with_tags(face, np.random.default_rng(3))[0]
    )
