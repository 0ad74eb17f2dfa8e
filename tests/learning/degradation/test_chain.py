"""All types of damage: what they have in common, and how they follow each other."""

from functools import partial

import numpy as np
import pytest

from hf_faceenh.learning.degradation import DEFAULT_PROBABILITIES, TYPES, Degradation, resize


def error(a, b):
    return np.abs(a.astype(float) - b.astype(float)).mean()


@pytest.mark.parametrize("kind", TYPES)
def test_strength_0_is_harmless_and_strength_1_is_worse_than_a_half(face, kind):
    image = face.astype(np.float32) / 255

    def damage(strength):
        errors = []
        for seed in range(12):
            lq = TYPES[kind](image, strength, np.random.default_rng(seed))
            lq = resize(lq, image.shape[1::-1])
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


def test_the_five_digital_types_are_where_they_were_and_most_of_the_damage():
    classical = ["colour", "blur", "downsample", "noise", "jpeg"]
    assert [kind for kind in TYPES if kind in classical] == classical
    assert DEFAULT_PROBABILITIES.keys() == TYPES.keys()
    others = [DEFAULT_PROBABILITIES[kind] for kind in TYPES if kind not in classical]
    assert all(0.03 < probability < 0.13 for probability in others)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_takes_pictures_of_any_size_and_shape(kind):
    for shape in ((32, 32), (33, 47), (129, 64)):
        image = np.random.default_rng(0).random((*shape, 3), np.float32)
        for seed in range(4):
            lq = TYPES[kind](image, 1.0, np.random.default_rng(seed))
            assert lq.dtype == np.float32 and lq.ndim == 3
            assert lq.shape == image.shape or kind in ("downsample", "second")


@pytest.mark.parametrize("kind", TYPES)
def test_the_same_generator_gives_the_same_damage_whatever_was_drawn_before(face, kind):
    image = face.astype(np.float32) / 255
    first = TYPES[kind](image, 0.8, np.random.default_rng(3))
    TYPES["noise"](image, 0.5, np.random.default_rng(4))
    np.testing.assert_array_equal(first, TYPES[kind](image, 0.8, np.random.default_rng(3)))


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


def test_tags_are_the_strengths_that_were_applied(face):
    seen = dict.fromkeys(TYPES, 0.0)
    coefficients = dict(zip(TYPES, np.linspace(0.1, 0.9, len(TYPES)), strict=True))

    def spy(kind, image, strength, rng):
        seen[kind] = strength
        return image

    degrade = Degradation(probabilities=dict.fromkeys(TYPES, 1) | {"blur": 0})
    with pytest.MonkeyPatch.context() as patch:
        for kind in TYPES:
            patch.setitem(TYPES, kind, partial(spy, kind))
        _, tags, _ = degrade.with_tags(face, np.random.default_rng(1), coefficients)
    np.testing.assert_allclose(tags, list(seen.values()), rtol=1e-6)
    assert tags.dtype == np.float32
    tags = dict(zip(TYPES, tags.tolist(), strict=True))
    assert tags["blur"] == 0 < tags["downsample"] <= coefficients["downsample"]
    np.testing.assert_array_equal(
        degrade(face, np.random.default_rng(3)), degrade.with_tags(face, np.random.default_rng(3))[0]
    )
