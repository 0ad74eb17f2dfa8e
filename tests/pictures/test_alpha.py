"""Colour under transparent pixels."""

import cv2
import numpy as np
import torch
from samples import gradient

from hf_faceenh.pictures.alpha import RELIABLE, continued


def cutout(size=120, softness=1.0):
    """A smooth picture, the same with black where its alpha is 0, and that alpha: an ellipse."""
    alpha = np.zeros((size, size), np.uint8)
    cv2.ellipse(alpha, (size // 2, size // 2), (size // 3, size * 2 // 5), 0, 0, 360, 255, -1)
    alpha = torch.from_numpy(cv2.GaussianBlur(alpha, (0, 0), softness))[None] / 255
    whole = torch.from_numpy(gradient(size, size)).permute(2, 0, 1) / 255
    return whole, whole * (alpha > 0), alpha


def on_white(pixels, alpha):
    """Upscaled by 4, and laid onto white."""
    upscaled = torch.nn.functional.interpolate(torch.cat([pixels, alpha])[None], scale_factor=4, mode="bicubic")[0]
    colour, opacity = upscaled[:3].clamp(0, 1), upscaled[3:].clamp(0, 1)
    return 255 * (colour * opacity + 1 - opacity)


def test_an_upscaled_edge_has_no_dark_rim():
    for softness in (0.4, 1.0, 3.0):
        whole, cut, alpha = cutout(softness=softness)
        assert (on_white(continued(cut, alpha), alpha) - on_white(whole, alpha)).min() > -4
    whole, cut, alpha = cutout(softness=0.01)
    assert (on_white(cut, alpha) - on_white(whole, alpha)).min() < -20  # what it would be otherwise


def test_what_is_seen_stays_and_what_is_not_is_continued():
    whole, cut, alpha = cutout()
    pixels = continued(cut, alpha)
    seen = (alpha >= RELIABLE).expand(3, -1, -1)
    assert torch.equal(pixels[seen], cut[seen])
    near = torch.from_numpy(cv2.dilate(alpha[0].numpy(), np.ones((7, 7))))[None].expand(3, -1, -1) > 0
    assert (pixels - whole)[near].abs().mean() < 0.03  # also beside the edge
    assert pixels.min() >= 0 and pixels.max() <= 1 and pixels.isfinite().all()
    assert cut[:, 0, 0].tolist() == [0, 0, 0]  # the caller's picture is as it was


def test_nothing_to_continue_from_or_to():
    pixels = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    for alpha in (None, torch.ones(1, 5, 7), torch.zeros(1, 5, 7)):
        assert continued(pixels, alpha) is pixels


def test_one_pixel_is_continued_over_all_others():
    for shape in ((1, 1), (1, 9), (37, 5)):
        alpha, pixels = torch.zeros(1, *shape), torch.zeros(3, *shape)
        alpha[0, -1, -1], pixels[:, -1, -1] = 1, torch.tensor([0.2, 0.5, 0.9])
        expected = torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(3, *shape)
        torch.testing.assert_close(continued(pixels, alpha), expected, atol=1e-3, rtol=0)
