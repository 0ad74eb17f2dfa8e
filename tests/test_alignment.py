import math

import pytest
import torch

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


def test_crops_of_several_faces_and_of_none():
    picture = torch.rand(3, 64, 64)
    transforms = torch.stack([similarity(0.5, 0, 0, 0), similarity(1, 45, 10, 10)])
    crops = crop_faces(picture, transforms, 32)
    assert crops.shape == (2, 3, 32, 32) and crops.min() >= 0 and crops.max() <= 1
    assert crop_faces(picture, torch.zeros(0, 2, 3), 32).shape == (0, 3, 32, 32)


def test_crops_are_differentiable_in_the_picture_and_the_landmarks():
    picture, points = torch.rand(3, 100, 100, requires_grad=True), POINTS[None].clone().requires_grad_()
    transforms = similarity_transform(points, POINTS / 2)
    crop_faces(picture, transforms, 32).square().mean().backward()
    assert picture.grad.abs().sum() > 0 and points.grad.abs().sum() > 0
