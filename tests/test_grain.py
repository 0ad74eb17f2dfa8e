"""Grain: found where it is and only there, and as strong on enhanced faces as beside them."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_enhancer, tiny_pipeline

from hf_faceenh import FaceEnhancer, graining
from hf_faceenh.denoising import with_less_grain
from hf_faceenh.grain import Grid, measure
from hf_faceenh.graining import match_grain
from hf_faceenh.models.face_network import FaceEnhancerOutput

SIDE = 256


class Smooth(FaceEnhancer):
    """An enhancer that leaves nothing finer than a few px."""

    def forward(self, sample, return_features=False, return_dict=True):
        small = torch.nn.functional.interpolate(sample, scale_factor=1 / 8, mode="area")
        return FaceEnhancerOutput(sample=torch.nn.functional.interpolate(small, scale_factor=8, mode="bicubic"))


def grain(height, width, deviation=8, blur=0.9, channels=1):
    field = np.random.default_rng(0).standard_normal((height, width, channels)).astype(np.float32)
    field = cv2.GaussianBlur(field, (0, 0), blur).reshape(height, width, channels)
    return deviation / 255 * field / field.std()


def scene(deviation=8, **options):
    """A shaded wall `[3, 256, 256]` with an edge, grey unless the grain has colours."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE
    clean = (0.3 + 0.3 * x + 0.1 * np.sin(5 * y) + 0.15 * (y > 0.8))[..., None].repeat(3, axis=2)
    grainy = clean + (grain(SIDE, SIDE, deviation, **options) if deviation else 0)
    return torch.from_numpy((grainy.clip(0, 1) * 255).round() / 255).permute(2, 0, 1).float()


def in_the_middle(rows, top, factor):
    """The middle of the scene is face."""
    y = (torch.arange(rows.shape[1]) + top + 0.5) / (SIDE * factor)
    x = (torch.arange(rows.shape[2]) + 0.5) / (SIDE * factor)
    return (((y - 0.5).abs() < 0.25)[:, None] & ((x - 0.5).abs() < 0.25)).float()[None]


def finished(photo, upscale):
    """The scene upscaled, with a face that has no grain."""
    result = torch.nn.functional.interpolate(photo[None], scale_factor=upscale, mode="bicubic")[0].clamp(0, 1)
    clean = torch.nn.functional.interpolate(scene(0)[None], scale_factor=upscale, mode="bicubic")[0]
    return torch.where(in_the_middle(result, 0, upscale) > 0, clean, result)


def fine(picture):
    """What is finer than 2 px of luma, in levels."""
    luma = picture.mean(dim=0).numpy() * 255
    return luma - cv2.GaussianBlur(luma, (0, 0), 2)


def on_and_beside(picture, upscale):
    """Deviations of the fine detail on the face and beside it."""
    detail, side = fine(picture), SIDE * upscale
    rows = slice(round(0.3 * side), round(0.7 * side))
    return detail[rows, rows].std(), detail[rows, : round(0.2 * side)].std()


@pytest.mark.parametrize("amount", [None, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("upscale", [1, 2, 4])
@pytest.mark.parametrize("blur", [0.5, 1.5])
def test_the_face_has_as_much_as_what_is_beside_it(amount, upscale, blur):
    photo = scene(blur=blur)
    result = finished(with_less_grain(photo, amount), upscale)
    before, wanted = on_and_beside(result, upscale)
    face, beside = on_and_beside(match_grain(result, photo, in_the_middle, amount), upscale)
    assert abs(face / beside - 1) < 0.33
    if amount in (None, 1.0):
        assert before < 0.3 * beside and abs(beside / wanted - 1) < 0.15


def test_the_amount_is_a_share_of_the_photographs_own_grain():
    photo = scene()
    shares = [on_and_beside(_at(photo, amount), 2)[0] for amount in (0.0, 0.5, 1.0)]
    own = on_and_beside(finished(photo, 2), 2)[1]
    assert shares[0] < 0.3 * own and abs(shares[1] / own - 0.5) < 0.15 and abs(shares[2] / own - 1) < 0.15


def _at(photo, amount):
    return match_grain(finished(with_less_grain(photo, amount), 2), photo, in_the_middle, amount)


@pytest.mark.parametrize("amount", [None, 0.0, 0.5, 1.0])
def test_a_clean_picture_stays_as_it_is(amount):
    photo = scene(0.5)
    assert with_less_grain(photo, amount) is photo
    result = finished(photo, 2)
    assert torch.equal(match_grain(result.clone(), photo, in_the_middle, amount), result)


def test_texture_is_not_grain():
    """A lawn around a smooth face."""
    photo = scene(0.5)
    lawn = scene(20)
    photo = torch.where(in_the_middle(photo, 0, 1) > 0, photo, lawn)
    result = finished(photo, 2)
    assert torch.equal(match_grain(result.clone(), photo, in_the_middle, None), result)


def test_grey_stays_grey_and_colour_has_its_colours():
    grey = _at(scene(), 1.0)
    assert (grey.amax(dim=0) - grey.amin(dim=0)).max() < 1 / 255
    photo = scene(channels=3)
    colour = _at(photo, 1.0)
    half = round(0.3 * 512), round(0.7 * 512)
    face, beside = colour[:, half[0] : half[1], half[0] : half[1]], colour[:, half[0] : half[1], :100]
    spread = [(part[0] - part[2]).std() for part in (face, beside)]
    assert spread[1] > 2 / 255 and abs(spread[0] / spread[1] - 1) < 0.33


def test_it_is_always_the_same_whatever_the_strips(monkeypatch):
    once = _at(scene(), 1.0)
    assert torch.equal(_at(scene(), 1.0), once)
    monkeypatch.setattr(graining, "STRIP", 512 * 37)
    torch.testing.assert_close(_at(scene(), 1.0), once, atol=1e-6, rtol=0)


def test_it_does_not_repeat():
    photo = scene().repeat(1, 4, 6)
    flat = torch.full_like(photo, 0.5)
    laid = match_grain(flat, photo, lambda rows, top, factor: torch.zeros_like(rows[:1]), 1.0)[0].numpy() - 0.5
    spectrum = np.abs(np.fft.rfft2(laid)) ** 2
    correlation = np.fft.irfft2(spectrum, laid.shape)
    correlation[:20, :20] = correlation[-20:, :20] = correlation[:20, -20:] = correlation[-20:, -20:] = 0
    assert np.abs(correlation).max() < 0.6 * (laid**2).sum()


def test_black_and_white_stay_and_nothing_leaves_the_range():
    photo = scene(20)
    result = torch.rand(1, SIDE, SIDE).repeat(3, 1, 1)
    result[:, :40], result[:, -40:] = 0, 1
    laid = match_grain(result, photo, lambda rows, top, factor: torch.zeros_like(rows[:1]), 1.0)
    assert laid.min() == 0 and laid.max() == 1 and laid[:, :40].max() == 0 and laid[:, -40:].min() == 1


def test_strength_follows_luma():
    y = np.linspace(0.1, 0.9, SIDE, dtype=np.float32)[:, None, None]
    clean = np.broadcast_to(y, (SIDE, SIDE, 3))
    grainy = clean + grain(SIDE, SIDE, 12) * (1 - 0.7 * y)
    found = measure(Grid(SIDE, SIDE).windows(torch.from_numpy(grainy).permute(2, 0, 1)))
    deviation = found.variance**0.5 * 255
    assert abs(deviation[1] / (12 * 0.86) - 1) < 0.25 and abs(deviation[5] / (12 * 0.44) - 1) < 0.25


def test_less_grain_keeps_edges():
    photo, clean = scene(), scene(0)
    cleaned = with_less_grain(photo, 0.0)
    assert (cleaned - clean).std() < 0.5 * (photo - clean).std()
    edge = slice(round(0.8 * SIDE) - 2, round(0.8 * SIDE) + 2)
    assert (cleaned - clean)[:, edge].abs().mean() < 0.02


@pytest.mark.parametrize("size", [(3, 5, 5), (3, 5, 300), (3, 20, 17)])
def test_tiny_pictures_pass(size):
    photo = torch.rand(size)
    none = lambda rows, top, factor: torch.zeros_like(rows[:1])  # noqa: E731
    for amount in (None, 0.0, 1.0):
        result = match_grain(with_less_grain(photo, amount).clone(), photo, none, amount)
        assert result.shape == size


def test_the_pipeline_agrees_with_itself(bundled, astronaut):
    photo = np.asarray(Image.open(astronaut).convert("RGB").crop((112, 0, 368, 256)), np.float32)
    grainy = Image.fromarray((photo + 255 * grain(256, 256, 9)).clip(0, 255).astype(np.uint8))
    enhancer = Smooth(**{key: value for key, value in tiny_enhancer().config.items() if not key.startswith("_")})
    pipe = tiny_pipeline(bundled, enhancer=enhancer, super_resolver=None)
    (waxy,) = pipe(grainy, upscale=1, strength=1.0, grain=None, output_type="pt", max_faces=0).images
    for amount in (None, 0.5, 1.0):
        output = pipe(grainy, upscale=1, output_type="pt", grain=amount)
        assert output.images[0].shape == waxy.shape and output.faces[0][0].left_alone is None
        face = fine(output.images[0])[95:120, 100:120].std()
        wall = fine(output.images[0])[20:60, 20:70].std()
        assert face > 0.6 * wall
    with pytest.raises(ValueError, match="grain must lie in"):
        pipe(grainy, grain=1.5)
