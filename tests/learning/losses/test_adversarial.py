import math

import pytest
import torch
from training_pieces import (
    LinearDiscriminator,
    discriminator,
    random_faces,
)

from hf_faceenh.learning.losses import (
    damage_weights,
    discriminator_hinge,
    discriminator_logistic,
    feature_distance,
    generator_hinge,
    generator_logistic,
    r1_penalty,
)


def test_adversarial_losses_at_known_logits():
    for logit in (-3.0, 0.0, 3.0):
        value = generator_logistic(torch.full((2, 1), logit)).mean()
        assert value.item() == pytest.approx(-math.log(1 / (1 + math.exp(-logit))), rel=1e-5)
    undecided = torch.zeros(2, 1)
    assert discriminator_logistic(undecided, undecided).item() == pytest.approx(2 * math.log(2))
    sure = torch.full((2, 1), 20.0)
    assert discriminator_logistic(sure, -sure) < 1e-6
    assert discriminator_logistic(-sure, sure).item() == pytest.approx(40)


def test_generator_still_learns_where_the_discriminator_is_sure():
    logits = torch.full((1, 1), -30.0, requires_grad=True)
    generator_logistic(logits).mean().backward()
    assert logits.grad.item() == pytest.approx(-1)  # a saturating loss would give 1e-13


def test_hinge_losses_at_known_logits():
    real, fake = torch.tensor([[2.0, 0.5]]), torch.tensor([[-0.5, -3.0]])
    assert discriminator_hinge(real, fake).item() == pytest.approx((0 + 0.5) / 2 + (0.5 + 0) / 2)
    torch.testing.assert_close(generator_hinge(fake), -fake)


def test_faces_count_by_a_power_of_their_damage():
    hq = torch.zeros(3, 3, 4, 4)
    lq = torch.tensor([0.08, 0.18, 0.38]).view(3, 1, 1, 1).expand_as(hq)  # 0.1, 0.2 and 0.4 with the floor
    torch.testing.assert_close(damage_weights(hq, lq, 0.0), torch.ones(3))
    torch.testing.assert_close(damage_weights(hq, lq, 1.0), 3 * torch.tensor([1.0, 2.0, 4.0]) / 7)
    torch.testing.assert_close(damage_weights(hq, lq, -1.0), 3 * torch.tensor([4.0, 2.0, 1.0]) / 7)


def test_feature_distance_is_the_mean_over_maps_of_any_size():
    small, large = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 8, 8)
    assert feature_distance([small + 1, large], [small, large + 3]).item() == pytest.approx((1 + 3) / 2)


@pytest.mark.parametrize("autocast", [False, True])
def test_r1_of_a_linear_discriminator_is_half_its_squared_weights(autocast):
    linear = LinearDiscriminator()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        penalty = r1_penalty(linear, random_faces(3, 8))
    expected = linear.direction.square().sum() / 2
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(linear.direction.grad, linear.direction.detach())  # of ½‖w‖²


def test_r1_trains_the_discriminator_and_leaves_the_faces_as_they_are():
    network, hq = discriminator(), random_faces(3, 32)
    with torch.no_grad():  # as within evaluation
        assert r1_penalty(network, hq) > 0
    r1_penalty(network, hq).backward()
    assert not hq.requires_grad and hq.grad is None
    assert network.stem.weight.grad.abs().sum() > 0
