import pytest
import torch
import training_pieces
from reducible import faces, gfpgan, gpen, groups_of, l2_loss, noisy, ours

from hf_faceenh.learning.losses import EnhancerLoss, LossConfig
from hf_faceenh.learning.reduction import (
    carry_optimizer,
    follow_channels,
    reduce_adapters,
)
from hf_faceenh.models.channels import masked, noise_feature_groups, reduce_tensors, remove_channels


@pytest.mark.parametrize("make", [ours, gpen, gfpgan])
def test_gradients_of_the_smaller_network_are_the_reduced_ones(make):
    model = make()
    batch = noisy(faces(model))
    keep = {name: torch.arange(group.width)[1::2] for name, group in groups_of(model).items()}
    with masked(model, keep):
        l2_loss(model(batch["lq"]).sample, batch).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    smaller = remove_channels(model, keep)
    l2_loss(smaller(batch["lq"]).sample, batch).backward()
    for name, expected in reduce_tensors(gradients, model, keep, power=-1).items():
        torch.testing.assert_close(dict(smaller.named_parameters())[name].grad, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, torch.optim.AdamW])
def test_adam_goes_on_with_the_kept_channels_as_if_the_others_were_masked(optimizer_class):
    model = ours()
    batch = noisy(faces(model))
    adapter = torch.nn.Parameter(torch.ones(3))  # parameters of others in the same optimiser
    adam = optimizer_class([*model.parameters(), adapter], lr=1e-3, betas=(0.9, 0.99), amsgrad=True)

    def step(network, optimizer):
        optimizer.zero_grad()
        (l2_loss(network(batch["lq"]).sample, batch) + adapter.square().sum()).backward()
        optimizer.step()

    for _ in range(3):
        step(model, adam)
    keep = {name: torch.arange(group.width)[::3] for name, group in groups_of(model).items()}
    smaller, fresh = remove_channels(model, keep), remove_channels(model, keep)
    carried = optimizer_class([*smaller.parameters(), adapter], lr=1e-3, betas=(0.9, 0.99), amsgrad=True)
    carry_optimizer(adam, model, smaller, keep, carried)
    assert adapter not in carried.state
    first = next(smaller.parameters())
    assert carried.state[first]["step"] == 3
    assert carried.state[first]["step"].data_ptr() != adam.state[next(model.parameters())]["step"].data_ptr()

    with masked(model, keep):
        step(model, adam)
        expected = reduce_tensors(dict(model.named_parameters()), model, keep)
    step(smaller, carried)
    step(fresh, optimizer_class(fresh.parameters(), lr=1e-3, betas=(0.9, 0.99), amsgrad=True))
    for name, parameter in smaller.named_parameters():
        torch.testing.assert_close(parameter, expected[name], atol=2e-6, rtol=0)
    away = [(parameter - expected[name]).abs().max() for name, parameter in fresh.named_parameters()]
    assert max(away) > 1e-4


@pytest.mark.parametrize("make", [ours, gpen, gfpgan])
def test_carried_moments_are_those_that_the_smaller_network_would_have_gathered(make):
    model = make()
    batch = noisy(faces(model))
    keep = {name: torch.arange(group.width)[1::2] for name, group in groups_of(model).items()}
    smaller = remove_channels(model, keep)
    adams = [torch.optim.Adam(network.parameters(), lr=0.0) for network in (model, smaller)]
    with masked(model, keep):
        for network, adam in zip((model, smaller), adams, strict=True):
            for _ in range(2):
                l2_loss(network(batch["lq"]).sample, batch).backward()  # gradients add up: the steps differ
                adam.step()
    carried = torch.optim.Adam(smaller.parameters())
    carry_optimizer(adams[0], model, smaller, keep, carried)
    for parameter in smaller.parameters():
        for moment, tolerance in (("exp_avg", 1e-7), ("exp_avg_sq", 1e-10)):
            expected = adams[1].state[parameter][moment]
            torch.testing.assert_close(carried.state[parameter][moment], expected, atol=tolerance, rtol=1e-3)


def test_an_optimizer_that_has_not_stepped_gives_nothing():
    model = ours()
    smaller = remove_channels(model, {})
    adam, carried = torch.optim.Adam(model.parameters()), torch.optim.Adam(smaller.parameters())
    carry_optimizer(adam, model, smaller, {}, carried)
    assert not carried.state


STUDENTS = [training_pieces.enhancer, training_pieces.gpen, training_pieces.gfpgan]


@pytest.mark.parametrize("make", STUDENTS)
def test_adapters_follow_the_channels_with_their_moments(make):
    student, teacher, lq = (
        make(width=6),
        training_pieces.enhancer(width=5, seed=2),
        training_pieces.random_faces(3, 32),
    )
    config = LossConfig(distillation_weight=1, distillation_adapters=True, adversarial_weight=0)
    loss = EnhancerLoss(config, teacher=teacher, student=student)
    optimizer = torch.optim.Adam(loss.distillation.adapters.parameters(), lr=0.01)
    for _ in range(2):
        loss.distillation(student(lq, return_features=True), lq).backward()
        optimizer.step()
    layers = [group.name for group in noise_feature_groups(student.channel_groups())]
    keep = {layers[0]: torch.tensor([0, 2, 5]), layers[2]: torch.tensor([1, 3])}
    before = list(loss.distillation.adapters)
    moments = [dict(optimizer.state[adapter.weight]) for adapter in before]

    smaller = remove_channels(student, keep)
    reduce_adapters(loss.adapters, student, keep, optimizer)

    for index, (old, new) in enumerate(zip(before, loss.distillation.adapters, strict=True)):
        channels = keep.get(layers[index], torch.arange(6))
        assert new.in_channels == len(channels)
        assert torch.equal(new.weight, old.weight[:, channels]) and torch.equal(new.bias, old.bias)
        state = optimizer.state[new.weight]
        assert state["step"] == 2
        for moment in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(state[moment], moments[index][moment][:, channels])
    value = loss.distillation(smaller(lq, return_features=True), lq)
    value.backward()
    assert value.isfinite() and all(p.grad is not None for p in loss.distillation.adapters.parameters())


def test_all_that_follows_the_channels_at_once():
    """Optimiser and averages go on where they were; adapters and their moments in the same optimiser."""
    student, lq = training_pieces.enhancer(width=6), training_pieces.random_faces(3, 32)
    config = LossConfig(distillation_weight=1, distillation_adapters=True, adversarial_weight=0)
    loss = EnhancerLoss(config, teacher=training_pieces.enhancer(width=5, seed=2), student=student)

    def adam(parameters):
        return torch.optim.Adam(parameters, lr=0.01, betas=(0.9, 0.99))

    optimizer = adam([*student.parameters(), *loss.adapters.parameters()])
    for _ in range(3):
        terms = loss(student(lq, return_features=True), lq, lq)
        loss.total(terms).backward()
        optimizer.step()
    averages = [parameter.detach().clone() for parameter in student.parameters()]
    keep = {name: torch.arange(group.width)[1::2] for name, group in groups_of(student).items()}
    smaller = remove_channels(student, keep)

    following, reduced = follow_channels(student, smaller, keep, optimizer, adam, averages, loss.adapters)

    for average, parameter in zip(reduced, smaller.parameters(), strict=True):
        assert torch.equal(average, parameter)  # as here the averages are the weights
    trained = [*smaller.parameters(), *loss.adapters.parameters()]
    (group,) = following.param_groups
    assert len(group["params"]) == len(trained) == len(following.state)
    assert all(ours is theirs for ours, theirs in zip(group["params"], trained, strict=True))
    for parameter in trained:
        state = following.state[parameter]
        assert state["step"] == 3 and state["exp_avg"].shape == state["exp_avg_sq"].shape == parameter.shape
    by_hand = adam(smaller.parameters())
    carry_optimizer(optimizer, student, smaller, keep, by_hand)
    for parameter in smaller.parameters():
        assert torch.equal(by_hand.state[parameter]["exp_avg"], following.state[parameter]["exp_avg"])
    loss.total(loss(smaller(lq, return_features=True), lq, lq)).backward()
    following.step()


def test_without_averages_and_adapters_the_optimizer_follows_alone():
    model = ours()
    smaller = remove_channels(model, {})
    following, averages = follow_channels(model, smaller, {}, torch.optim.Adam(model.parameters()), torch.optim.Adam)
    assert averages == [] and len(following.param_groups[0]["params"]) == len(list(smaller.parameters()))
