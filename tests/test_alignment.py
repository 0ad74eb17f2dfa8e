"""Transforms between photograph and crop, and the sampling between them."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_faceenh import alignment
from hf_faceenh.alignment import crop_faces, invert, scale_of, similarity_transform, transform_points, warp

POINTS = torch.tensor([[30.0, 40.0], [60.0, 42.0], [45.0, 55.0], [33.0, 70.0], [58.0, 71.0]])


def similarity(scale, degrees, x, y):
    a, b = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return torch.tensor([[a, -b, x], [b, a, y]])


def test_recovers_a_similarity_transform():
    expected = similarity(1.7, 25, -12, 30)
    found = similarity_transform(POINTS[None], transform_points(expected, POINTS))
    torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=1e-4)
    assert scale_of(found)[0].item() == pytest.approx(1.7, abs=1e-4)


def test_is_the_least_squares_one():
    noisy = POINTS + torch.tensor([[2.0, 0], [0, -3], [1, 1], [-2, 2], [0, 1]])
    best = similarity_transform(noisy[None], POINTS)[0]
    error = (transform_points(best, noisy) - POINTS).square().sum()
    for change in (similarity(1.01, 0, 0, 0), similarity(1, 0.5, 0, 0), similarity(1, 0, 0.3, 0)):
        other = transform_points(change, transform_points(best, noisy))
        assert (other - POINTS).square().sum() > error


def test_invert():
    transform = similarity(0.4, -70, 5, 8)
    torch.testing.assert_close(transform_points(invert(transform), transform_points(transform, POINTS)), POINTS)


def test_coinciding_points_are_refused():
    with pytest.raises(ValueError, match="points coincide"):
        similarity_transform(torch.ones(1, 5, 2), POINTS)


def ramp(height, width):
    """A picture whose red is x and whose green is y of the pixel's centre, in hundredths."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y, 0 * x]) / 100


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 2.5])
def test_pixel_centres_are_at_half_integers(scale):
    """A picture of its own coordinates tells where every pixel of the crop came from."""
    transform = similarity(scale, 10, -20 * scale, -15 * scale)
    crop = warp(ramp(90, 90), transform, 8, 8)
    y, x = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing="ij")
    source = transform_points(invert(transform), torch.stack([x, y], dim=2))
    # the tolerance, 0.06 px, is what this bicubic kernel bends a ramp
    torch.testing.assert_close(crop[:2], source.permute(2, 0, 1) / 100, atol=6e-4, rtol=0)


def test_the_identity_changes_nothing():
    picture = torch.rand(3, 20, 30)
    torch.testing.assert_close(warp(picture, similarity(1, 0, 0, 0), 20, 30), picture, atol=1e-5, rtol=0)


def test_a_window_is_a_part_of_the_whole():
    transform = similarity(1.3, 20, 4, -3)
    whole = warp(ramp(50, 50), transform, 40, 40)
    torch.testing.assert_close(warp(ramp(50, 50), transform, 10, 12, x=7, y=20), whole[:, 20:30, 7:19])


def test_reducing_does_not_alias():
    stripes = (torch.arange(400) % 2).float().expand(3, 400, 400)
    crop = warp(stripes, similarity(0.123, 7, 0, 0), 40, 40)
    assert (crop - 0.5).abs().max() < 0.02


@pytest.mark.parametrize("ratio", [8, 23])
def test_a_large_picture_is_not_shifted(ratio):
    """The blocks that it is averaged over first lie at their own centres: a ramp stays what it is."""
    size = 24 * ratio
    exact = warp(ramp(size, size), similarity(1 / ratio, 0, 0, 0), 8, 8, x=8, y=8)[:2] * 100
    y, x = torch.meshgrid(torch.arange(8) + 8.5, torch.arange(8) + 8.5, indexing="ij")
    error = exact / ratio - torch.stack([x, y])  # px of the target
    assert error.abs().max() < 0.01 and error.mean().abs() < 1e-3
    turned = similarity(1 / ratio, 20, 0, 0)
    source = transform_points(invert(turned), torch.stack([x, y], dim=2)).permute(2, 0, 1)
    wide = ramp(2 * size, 2 * size)
    inside = (source > 2 * ratio).all() and (source < 2 * size - 2 * ratio).all()
    error = (warp(wide, turned, 8, 8, x=8, y=8)[:2] * 100 - source) / ratio
    assert inside and error.abs().max() < 0.01 and error.mean().abs() < 1e-3


@pytest.mark.parametrize("ratio", [8, 10.7, 23])
@pytest.mark.parametrize("degrees", [0, 30])
def test_averaging_first_changes_little(ratio, degrees, monkeypatch):
    with Image.open(Path(__file__).parents[1] / "examples" / "astronaut.png") as image:
        picture = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255
    transform = similarity(1 / ratio, degrees, 3, -2)
    crop = warp(picture, transform, 30, 30)
    monkeypatch.setattr(alignment, "SAMPLES", math.inf)
    assert -10 * (crop - warp(picture, transform, 30, 30)).square().mean().log10() > 45  # PSNR, dB


@pytest.mark.parametrize("outside", ["reflection", "zeros"])
@pytest.mark.parametrize("ratio", [3, 9])
def test_what_is_beyond_the_border(ratio, outside):
    """The same as of a picture with a margin of what is beyond it."""
    picture, margin = torch.rand(3, 50, 70), 150
    mode = "symmetric" if outside == "reflection" else "constant"
    wide = torch.from_numpy(np.pad(picture.numpy(), [(0, 0), (margin, margin), (margin, margin)], mode=mode))
    transform = similarity(1 / ratio, 30, 4, 6)
    moved = transform.clone()
    moved[:, 2] -= transform[:, :2] @ torch.tensor([margin, margin], dtype=torch.float32)
    expected = warp(wide, moved, 16, 14, outside=outside)
    # blocks begin at multiples of their side from the border, which here is 9 // 4 = 2 px: 150 is one
    torch.testing.assert_close(warp(picture, transform, 16, 14, outside=outside), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.7])
def test_bands_and_windows_make_no_difference(scale, monkeypatch):
    picture, transform = torch.rand(3, 600, 500), similarity(scale, 20, 4, -3)
    whole = warp(picture, transform, 40, 40)
    assert torch.allclose(warp(picture, transform, 10, 12, x=7, y=20), whole[:, 20:30, 7:19], atol=1e-6)
    monkeypatch.setattr(alignment, "BAND", 1000)
    assert torch.equal(warp(picture, transform, 40, 40), whole)


MEMORY = """
import torch
from hf_faceenh.alignment import warp
def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
picture = torch.rand(3, 4000, 4000)
warp(picture[:, :100, :100], torch.eye(2, 3), 64, 64)
before = peak()
warp(picture, torch.eye(2, 3) / 15.6, 256, 256)
warp(picture[:, :512, :512], torch.eye(2, 3) * 3, 1500, 1500)
print(peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no peak memory that can be read")
def test_memory_does_not_grow_with_the_picture():
    """A grid over all of these 16 megapixels has 256 MiB, several times while it is made."""
    printed = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    assert float(printed) < 250  # MiB


def test_crops_of_several_faces_and_of_none():
    picture = torch.rand(3, 64, 64)
    transforms = torch.stack([similarity(0.5, 0, 0, 0), similarity(1, 45, 10, 10)])
    crops = crop_faces(picture, transforms, 32)
    assert crops.shape == (2, 3, 32, 32) and crops.min() >= 0 and crops.max() <= 1
    assert crop_faces(picture, torch.zeros(0, 2, 3), 32).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("scale", [0.5, 0.1])
def test_crops_are_differentiable_in_the_picture_and_the_landmarks(scale):
    picture, points = torch.rand(3, 100, 100, requires_grad=True), POINTS[None].clone().requires_grad_()
    transforms = similarity_transform(points, POINTS * scale)
    crop_faces(picture, transforms, 32).square().mean().backward()
    assert picture.grad.abs().sum() > 0 and points.grad.abs().sum() > 0
