"""Which regions are face, how their mask is feathered, and how faces are laid into the photograph."""

import math
import weakref

import cv2
import numpy as np
import pytest
import torch

from hf_faceenh import fusion
from hf_faceenh.fusion import face_labels, face_mask, fuse, gaussian_blur, region_mask

WORDS = "background skin nose l_eye r_eye l_brow r_brow mouth u_lip l_lip hair hat neck cloth".split()


def place(center_x, center_y, side, degrees=0.0):
    """Photograph's px → crop of side 1."""
    a = math.cos(math.radians(degrees)) / side
    b = math.sin(math.radians(degrees)) / side
    matrix = torch.tensor([[a, -b], [b, a]])
    return torch.cat([matrix, 0.5 - matrix @ torch.tensor([[float(center_x)], [float(center_y)]])], dim=1)


def oval(size=64):
    """A face's probabilities: skin in an oval, hair around it."""
    y, x = torch.meshgrid(*[(torch.arange(size) + 0.5) / size - 0.5] * 2, indexing="ij")
    face = ((x / 0.3) ** 2 + (y / 0.4) ** 2 < 1).float()
    probabilities = torch.zeros(1, len(WORDS), size, size)
    probabilities[0, WORDS.index("skin")] = face
    probabilities[0, WORDS.index("hair")] = 1 - face
    return probabilities


def test_the_face_is_selected_by_name_in_any_order():
    assert {WORDS[i] for i in face_labels(dict(enumerate(WORDS)))} == set(WORDS[1:10])
    assert face_labels({0: "cloth", 7: "Nose", 3: "skin"}) == [7, 3]
    with pytest.raises(ValueError, match="LABEL_0.*CelebAMask-HQ"):
        face_labels({0: "LABEL_0", 1: "LABEL_1"})


@pytest.mark.parametrize("sigma", [2, 12, 15.36, 25.6])
@pytest.mark.parametrize("size", [256, 504])
def test_a_wide_blur_is_a_gaussian_too(sigma, size):
    mask = oval(size)[:, [WORDS.index("skin")]]
    mask[..., : size // 10] = 1  # at the border, which is repeated outside
    expected = cv2.GaussianBlur(mask[0, 0].numpy(), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    assert np.abs(gaussian_blur(mask, sigma)[0, 0].numpy() - expected).max() < 1 / 200


def test_mask_is_full_on_the_face_soft_at_its_edge_and_zero_at_the_border():
    mask = face_mask(oval(), face_labels(dict(enumerate(WORDS))))[0, 0]
    assert mask[32, 32] > 0.99 and mask[32, 2] < 0.01
    assert (mask.diff(dim=0).abs().max() < 0.3) and mask.min() >= 0 and mask.max() <= 1
    everywhere = face_mask(torch.ones(1, 1, 64, 64), [0])[0, 0]
    for edge in (everywhere[0], everywhere[-1], everywhere[:, 0], everywhere[:, -1]):
        assert edge.max() == 0
    assert everywhere[8:-8, 8:-8].min() > 0.99


NAMES = dict(enumerate(WORDS))


def head(size=128, reach=0.42, rest="hair"):
    """An `oval` of skin with a larger one of something else around it and background around that."""
    y, x = torch.meshgrid(*[(torch.arange(size) + 0.5) / size - 0.5] * 2, indexing="ij")
    probabilities = oval(size)
    around = ((x / reach) ** 2 + (y / (reach + 0.1)) ** 2 < 1).float() * probabilities[0, WORDS.index("hair")]
    probabilities[0, WORDS.index("background")] = probabilities[0, WORDS.index("hair")] - around
    probabilities[0, WORDS.index("hair")] = 0
    probabilities[0, WORDS.index(rest)] = around
    return probabilities


@pytest.mark.parametrize("rest", ["hair", "hat"])
def test_the_head_is_face_and_what_is_around_it(rest):
    probabilities = head(rest=rest)
    face, whole = (region_mask(probabilities, NAMES, regions)[0, 0] for regions in ("face", "head"))
    assert torch.equal(face, face_mask(probabilities, face_labels(NAMES))[0, 0])  # as it is without hair
    assert face[64, 16] < 0.02 and whole[64, 22] > 0.7 and whole[10, 64] < whole[22, 64]
    assert (whole >= face).all() and whole.max() <= 1
    assert torch.equal(region_mask(probabilities, NAMES)[0, 0], whole)


@pytest.mark.parametrize("reach", [0.34, 0.42, 2])
def test_no_edge_of_the_head_shows(reach):
    """Neither where the head ends nor where the crop does: a step of its mask is a small share of what it hides."""
    mask = region_mask(head(reach=reach), NAMES, "head")[0, 0]
    for along in (0, 1):
        assert mask.diff(dim=along).abs().max() < 0.12  # the face's own edge, in 128 px
        assert mask[:, :20].diff(dim=along).abs().max() < 0.08
    for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
        assert edge.max() < 0.01


def test_the_less_certain_the_parser_is_of_hair_the_less_of_it_is_taken():
    doubtful = head()
    share = doubtful[:, WORDS.index("hair")] * 0.6
    doubtful[:, WORDS.index("hair")] -= share
    doubtful[:, WORDS.index("background")] += share
    certain, less = region_mask(head(), NAMES)[0, 0], region_mask(doubtful, NAMES)[0, 0]
    assert 0.3 < less[64, 18] / certain[64, 18] < 0.7 and less[64, 64] > 0.99


def test_a_parser_without_hair_gives_the_face():
    names = {index: name for index, name in NAMES.items() if name not in ("hair", "hat")}
    probabilities = head(rest="neck")
    assert torch.equal(region_mask(probabilities, names, "head"), region_mask(probabilities, names, "face"))
    with pytest.raises(ValueError, match="names no region of a face"):
        region_mask(probabilities, {0: "background", 1: "hair"}, "head")


def test_the_feather_is_proportional_to_the_face():
    """The same face at twice the size has the same mask, twice as large."""
    small, large = (face_mask(oval(size), [WORDS.index("skin")]) for size in (64, 128))
    halved = torch.nn.functional.avg_pool2d(large, 2)
    assert (halved - small).abs().max() < 0.08 and (halved - small).abs().mean() < 0.01


def test_a_face_lands_where_its_transform_says_and_nothing_else_changes():
    photo = torch.zeros(3, 100, 120)
    face, mask = torch.ones(3, 32, 32), face_mask(torch.ones(1, 1, 64, 64), [0])[0]
    result = fuse(photo, [face], [mask], [place(70, 40, 40, degrees=30)])
    assert result is photo
    assert result[:, 40, 70].min() > 0.99
    y, x = torch.meshgrid(torch.arange(100), torch.arange(120), indexing="ij")
    far = ((x - 70).abs() + (y - 40).abs()) > 40
    assert result[:, far].max() == 0


def test_a_face_beyond_the_border_is_cut():
    photo = torch.zeros(3, 60, 60)
    mask = face_mask(torch.ones(1, 1, 64, 64), [0])[0]
    result = fuse(photo, [torch.ones(3, 32, 32)], [mask], [place(0, 0, 40)])
    assert result[:, 0, 0].min() > 0.99 and result[:, 30:, 30:].max() == 0


def test_overlapping_faces_are_blended_by_weight_not_by_order():
    faces = [torch.full((3, 32, 32), 0.2), torch.full((3, 32, 32), 0.9)]
    masks = [face_mask(torch.ones(1, 1, 64, 64), [0])[0]] * 2
    places = [place(40, 50, 40), place(55, 50, 40)]
    forth = fuse(torch.zeros(3, 100, 100), faces, masks, places)
    back = fuse(torch.zeros(3, 100, 100), faces[::-1], masks[::-1], places[::-1])
    torch.testing.assert_close(forth, back, atol=1e-6, rtol=0)
    torch.testing.assert_close(forth[:, 50, 47], torch.full((3,), 0.55), atol=0.02, rtol=0)  # both count alike
    torch.testing.assert_close(forth[:, 50, 28], torch.full((3,), 0.2), atol=0.01, rtol=0)
    torch.testing.assert_close(forth[:, 50, 70], torch.full((3,), 0.9), atol=0.01, rtol=0)


def test_a_face_that_equals_the_photograph_leaves_no_trace():
    value = torch.tensor([0.3, 0.6, 0.1])[:, None, None]
    photo = value.expand(3, 80, 80).clone()
    result = fuse(photo.clone(), [value.expand(3, 32, 32)], [face_mask(oval(), [1])[0]], [place(40, 40, 50, 15)])
    torch.testing.assert_close(result, photo, atol=2e-4, rtol=0)


def test_no_face_changes_nothing():
    photo = torch.rand(3, 10, 10)
    torch.testing.assert_close(fuse(photo.clone(), [], [], []), photo)


def crowd(count=12):
    torch.manual_seed(0)
    mask = face_mask(torch.ones(1, 1, 64, 64), [0])[0]
    places = [place(*(torch.rand(2) * 100).tolist(), 20 + 20 * index % 45, 30 * index) for index in range(count)]
    return (
        torch.rand(3, 100, 90),
        list(torch.rand(count, 3, 32, 32)),
        [mask * (0.5 + 0.04 * i) for i in range(count)],
        places,
    )


@pytest.mark.parametrize("strip", [1, 90 * 7, 90 * 64])
def test_strips_do_not_show(monkeypatch, strip):
    photo, *faces = crowd()
    whole = fuse(photo.clone(), *faces)
    monkeypatch.setattr(fusion, "STRIP", strip)
    torch.testing.assert_close(fuse(photo.clone(), *faces), whole, atol=0, rtol=0)


def test_overlapping_faces_equal_the_formula():
    """All at once over the whole photograph: result = photo + Σ wᵢ·(faceᵢ − photo)."""
    photo, faces, masks, places = crowd()
    window = (0, 0, 90, 100)
    placed = [fusion._place(mask, transform, window) for mask, transform in zip(masks, places, strict=True)]
    total = sum(placed).clamp(min=1)
    assert total.max() > 1.2
    expected = photo.clone()
    for face, mask, transform in zip(faces, placed, places, strict=True):
        expected += mask / total * (fusion._place(face, transform, window) - photo)
    torch.testing.assert_close(fuse(photo.clone(), faces, masks, places), expected.clamp(0, 1), atol=1e-5, rtol=0)


def test_a_face_is_asked_for_when_its_strip_comes_and_let_go_after_it(monkeypatch):
    monkeypatch.setattr(fusion, "STRIP", 40 * 10)
    made = []

    class OnDemand(list):
        def __getitem__(self, index):
            face = torch.rand(3, 16, 16)
            made.append(weakref.ref(face))
            alive.append(sum(one() is not None for one in made))
            return face

    alive = []
    places = [place(20, 10 + 20 * index, 16) for index in range(10)]
    mask = face_mask(torch.ones(1, 1, 64, 64), [0])[0]
    fuse(torch.rand(3, 210, 40), OnDemand([None] * 10), [mask] * 10, places)
    assert len(made) == 10 and max(alive) <= 2
