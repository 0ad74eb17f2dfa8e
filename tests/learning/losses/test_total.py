import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from training_pieces import (
    LinearDiscriminator,
    blurred,
    discriminator,
    enhancer,
    gpen,
    projected,
    random_faces,
    recognizer,
    untouched,
)
from transformers import MobileNetV2Config, MobileNetV2Model

from hf_faceenh.learning.losses import (
    GAMES,
    DiscriminatorLoss,
    EnhancerLoss,
    LossConfig,
    charbonnier,
    discriminator_logistic,
    relative_l1,
    relative_l2,
)


def test_discriminator_loss_trains_the_discriminator_not_the_enhancer():
    network, enhanced = discriminator(), random_faces(3, 32, seed=1).requires_grad_(True)
    loss = DiscriminatorLoss(LossConfig())
    terms = loss(network, random_faces(3, 32), enhanced, random_faces(3, 32, seed=2))
    assert terms.keys() == {"discriminator", "r1"}
    loss.total(terms).backward()
    assert enhanced.grad is None
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_discriminator_loss_falls_when_trained():
    network, hq, enhanced = discriminator(), random_faces(4, 32), blurred(random_faces(4, 32, seed=1), 5)
    loss = DiscriminatorLoss(LossConfig(r1_weight=0.1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.0, 0.99))
    values = []
    for step in range(40):
        terms = loss(network, hq, enhanced, enhanced, step)
        values.append(terms["discriminator"].item())
        optimizer.zero_grad()
        loss.total(terms).backward()
        optimizer.step()
    assert values[-1] < 0.5 * values[0]


NAMES = ("perceptual", "adversarial", "distillation", "imitation", "similarity")  # besides pixel


def everything(**weights):
    """The whole loss of tiny networks, and all that its call needs."""
    torch.manual_seed(0)
    networks = {
        "perceptual": MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25, image_size=64)),
        "recognizer": recognizer(),
        "teacher": gpen(),
    }
    config = {f"{name}_weight": 1.0 for name in ("pixel", *NAMES)}
    return EnhancerLoss(LossConfig(**config | weights), **networks, student=enhancer()), networks


def test_all_terms_train_the_enhancer_and_nothing_else():
    loss, networks = everything()
    student, critic, hq = enhancer(), discriminator(), random_faces(3, 32)
    lq = blurred(hq, 5)
    terms = loss(student(lq, return_features=loss.needs_features), hq, lq, critic, step=0)
    assert terms.keys() == {"pixel", *NAMES}
    assert all(value.ndim == 0 and value.isfinite() for value in terms.values())
    for value in terms.values():
        student.zero_grad()
        value.backward(retain_graph=True)
        assert student.convolutional_network.stem.weight.grad.abs().sum() > 0
    assert untouched(critic, *networks.values())
    assert all(p.requires_grad for p in critic.parameters())  # its own step comes next


def test_total_weighs_the_terms():
    loss, _ = everything(
        pixel_weight=2.0,
        perceptual_weight=0.5,
        adversarial_weight=0.25,
        distillation_weight=3.0,
        imitation_weight=5,
        similarity_weight=4,
    )
    hq = random_faces(3, 32)
    lq = blurred(hq, 5)
    terms = loss(enhancer()(lq, return_features=True), hq, lq, discriminator())
    weights = dict(zip(("pixel", *NAMES), (2, 0.5, 0.25, 3, 5, 4), strict=True))
    expected = sum(weights[name] * value.item() for name, value in terms.items())
    assert loss.total(terms).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("pixel", ["relative_l1", "relative_l2", "l1", "charbonnier"])
def test_pixel_loss_by_name(pixel):
    hq = random_faces(2, 32)
    lq = blurred(hq, 5)
    expected = {
        "relative_l1": relative_l1(lq * 0.9, hq, lq),
        "relative_l2": relative_l2(lq * 0.9, hq, lq),
        "l1": (lq * 0.9 - hq).abs().mean(),
        "charbonnier": charbonnier(lq * 0.9, hq),
    }
    output = enhancer()(lq)
    output.sample = lq * 0.9
    terms = EnhancerLoss(LossConfig(pixel=pixel, adversarial_weight=0))(output, hq, lq)
    assert terms["pixel"].item() == pytest.approx(expected[pixel].item())


@pytest.mark.parametrize("name", NAMES)
def test_a_term_of_weight_zero_is_neither_built_nor_computed(name):
    every = {f"{other}_weight": 1.0 for other in NAMES} | {"pixel_weight": 1.0}
    full, _ = everything()
    loss, _ = everything(**every | {f"{name}_weight": 0.0})
    assert getattr(loss, name, None) is None
    assert loss.needs_features == (name != "distillation")
    hq = random_faces(2, 32)
    output = enhancer()(hq, return_features=True)
    costs = []
    for candidate in (full, loss):
        with FlopCounterMode(display=False) as counter:
            terms = candidate(output, hq, hq, discriminator())
        costs.append(counter.get_total_flops())
    assert name not in terms and costs[1] < costs[0]


def test_pixels_alone_need_no_network_and_no_multiplication():
    loss = EnhancerLoss(LossConfig(adversarial_weight=0))
    hq = random_faces(2, 32)
    output = enhancer()(hq)
    with FlopCounterMode(display=False) as counter:
        assert loss(output, hq, hq).keys() == {"pixel"}
    assert counter.get_total_flops() == 0 and not list(loss.parameters()) and not loss.needs_features


def test_lazy_terms_are_absent_on_other_steps_and_give_the_same_gradient_in_sum():
    hq = random_faces(2, 32)
    lq = blurred(hq, 5)
    gradients = []
    for intervals in ({"perceptual_every": 1, "similarity_every": 1}, {"perceptual_every": 3, "similarity_every": 2}):
        loss, _ = everything(distillation_weight=0, **intervals)
        student = enhancer()
        for step in range(6):
            terms = loss(student(lq), hq, lq, discriminator(), step)
            for name in ("perceptual", "similarity"):
                assert (name in terms) == (step % intervals[f"{name}_every"] == 0)
            loss.total(terms).backward()
        gradients.append(student.convolutional_network.stem.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_lazy_r1_gives_the_same_gradient_in_sum():
    hq, enhanced = random_faces(3, 8), random_faces(3, 8, seed=1)
    gradients = []
    for every in (1, 4):
        loss, linear = DiscriminatorLoss(LossConfig(r1_weight=0.1, r1_every=every)), LinearDiscriminator()
        for step in range(8):
            terms = loss(linear, hq, enhanced, enhanced, step)
            assert ("r1" in terms) == (step % every == 0)
            loss.total(terms).backward()
        gradients.append(linear.direction.grad)
    torch.testing.assert_close(*gradients)
    assert DiscriminatorLoss(LossConfig(r1_weight=0))(linear, hq, enhanced, enhanced).keys() == {"discriminator"}


@pytest.mark.parametrize(("every", "from_lq"), [(0, []), (1, [0, 1, 2, 3, 4, 5]), (2, [1, 3, 5]), (3, [2, 5])])
def test_the_discriminator_is_shown_degraded_faces_every_so_often(every, from_lq):
    loss, linear = DiscriminatorLoss(LossConfig(poor_every=every)), LinearDiscriminator()
    hq, enhanced, lq = (random_faces(3, 8, seed=seed) for seed in range(3))
    values = [loss(linear, hq, enhanced, lq, step)["discriminator"].item() for step in range(6)]
    of = {faces: discriminator_logistic(linear(hq).logits, linear(faces).logits).item() for faces in (enhanced, lq)}
    assert values == pytest.approx([of[lq if step in from_lq else enhanced] for step in range(6)])


def against_projected(**changes):
    """The discriminator's terms alone, and pixels, which have to be there at every step."""
    config = {"adversarial_weight": 1.0, "matching_weight": 1.0} | changes
    return EnhancerLoss(LossConfig(**config), game=GAMES["projected"])


def test_a_projected_discriminators_terms_train_the_enhancer_and_not_the_discriminator():
    student, critic, hq = enhancer(), projected(parts=True), random_faces(2, 32)
    lq = blurred(hq, 5)
    terms = against_projected(augmentation=0.3)(student(lq), hq, lq, critic)
    assert terms.keys() == {"pixel", "adversarial", "matching"}
    for value in (terms["adversarial"], terms["matching"]):
        student.zero_grad()
        value.backward(retain_graph=True)
        assert student.convolutional_network.stem.weight.grad.abs().sum() > 0
    assert untouched(critic)
    assert {name.split(".")[0] for name, value in critic.named_parameters() if value.requires_grad} == {"heads"}


def test_matching_compares_what_is_augmented_alike():
    critic, hq = projected().eval(), random_faces(2, 32)
    output = enhancer()(hq)
    for sample, expected in ((hq, 0.0), (blurred(hq, 5), None)):
        output.sample = sample
        distance = against_projected(augmentation=0.5)(output, hq, hq, critic)["matching"].item()
        assert distance == expected if expected is not None else distance > 0.01


def test_a_face_counts_by_its_damage_in_the_adversarial_term():
    hq, linear = random_faces(2, 8), LinearDiscriminator()
    lq = torch.stack([hq[0] * 0.9, hq[1] * 0.1])
    output = enhancer(8)(lq)
    values = -linear(output.sample).logits[:, 0]
    terms = against_projected(matching_weight=0, adversarial_by_damage=-1)(output, hq, lq, linear)
    errors = (lq - hq).abs().mean(dim=(1, 2, 3)) + 0.02
    expected = (values / errors).sum() / (1 / errors).sum()
    assert terms["adversarial"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_both_players_see_augmented_faces_other_ones_at_every_step():
    hq, seen = random_faces(2, 8), []

    class Recording(LinearDiscriminator):
        def forward(self, faces):
            seen.append(faces.detach())
            return super().forward(faces)

    config, critic = LossConfig(augmentation=0.5), Recording()
    for step in (0, 1):
        EnhancerLoss(config)(enhancer(8)(hq), hq, hq, critic, step)
        DiscriminatorLoss(config, GAMES["projected"])(critic, hq, hq, hq, step)
    assert len(seen) == 6
    assert all(not torch.equal(one, other) for i, one in enumerate(seen) for other in [hq, *seen[:i]])


def test_only_the_game_of_gpen_has_r1():
    hq, critic = random_faces(2, 32), projected()
    assert DiscriminatorLoss(LossConfig(), GAMES["projected"])(critic, hq, hq, hq).keys() == {"discriminator"}


@pytest.mark.parametrize(
    ("weight", "missing"),
    [
        ("perceptual", "perceptual_backbone"),
        ("similarity", "recognizer"),
        ("distillation", "teacher"),
        ("imitation", "teacher"),
    ],
)
def test_a_missing_network_is_named(weight, missing):
    with pytest.raises(ValueError, match=f"loss.{weight}_weight is above 0, but there is no {missing}"):
        EnhancerLoss(LossConfig(**{f"{weight}_weight": 1.0}))


def test_adapters_without_a_student_and_an_adversary_without_a_discriminator_are_named():
    config = LossConfig(distillation_weight=1, distillation_adapters=True)
    with pytest.raises(ValueError, match="no student"):
        EnhancerLoss(config, teacher=gpen())
    hq = random_faces(1, 32)
    for weights in ({}, {"adversarial_weight": 0, "matching_weight": 1}):
        with pytest.raises(ValueError, match="no discriminator"):
            EnhancerLoss(LossConfig(**weights))(enhancer()(hq), hq, hq)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel": "l2"}, "loss.pixel must be one of relative_l1, relative_l2, l1, charbonnier; got 'l2'"),
        ({"pixel_weight": -1}, "loss.pixel_weight must be at least 0; got -1"),
        ({"r1_weight": math.nan}, "loss.r1_weight must be at least 0; got nan"),
        ({"r1_every": 0}, "loss.r1_every must be at least 1; got 0"),
        ({"poor_every": -1}, "loss.poor_every must be at least 0; got -1"),
        ({"augmentation": 1.5}, r"loss.augmentation must be in \[0, 1\]; got 1.5"),
        ({"adversarial_by_damage": math.nan}, r"loss.adversarial_by_damage must be in \[-4, 4\]; got nan"),
        ({"similarity": "cosine"}, "loss.similarity must be distance or relative; got 'cosine'"),
        ({"pixel_weight": 0, "adversarial_weight": 0}, "no loss at every step"),
        (
            {"pixel_weight": 0, "adversarial_weight": 0, "perceptual_weight": 1, "perceptual_every": 2},
            "no loss at every step",
        ),
    ],
)
def test_a_mistaken_config_is_one_clear_line(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        LossConfig(**changes)
    assert "\n" not in str(caught.value)


def test_no_step_waits_for_a_value():
    """On the meta device there are no values: whatever asks for one, and on a GPU would wait for it, fails."""
    loss, _ = everything()
    critic, loss, student = discriminator().to("meta"), loss.to("meta"), enhancer().to("meta")
    hq = torch.empty(3, 3, 32, 32, device="meta")
    terms = loss(student(hq, return_features=True), hq, hq, critic)
    loss.total(terms).backward()
    own = DiscriminatorLoss(LossConfig(r1_weight=0))  # R1 turns autocast off, which the meta device does not know
    own.total(own(critic, hq, hq, hq)).backward()
    assert terms.keys() == {"pixel", *NAMES}

    critic, loss = projected(parts=True).to("meta"), against_projected(augmentation=0.5, adversarial_by_damage=1)
    loss.total(loss(student(hq), hq, hq, critic)).backward()
    own = DiscriminatorLoss(LossConfig(augmentation=0.5), GAMES["projected"])
    own.total(own(critic, hq, hq, hq)).backward()
