import math

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_enhancer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    BertModel,
    MobileNetV2Config,
    MobileNetV2Model,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTModel,
)

from hf_faceenh.learning.losses import (
    DiscriminatorLoss,
    DistillationLoss,
    EnhancerLoss,
    ImitationLoss,
    LossConfig,
    PerceptualLoss,
    SimilarityLoss,
    attention_map,
    attribute_distance,
    charbonnier,
    discriminator_loss,
    features_of,
    generator_adversarial,
    r1_penalty,
    relative_l1,
)
from hf_faceenh.models import FaceDiscriminator, FaceEnhancer, FaceRecognizer, FaceRecognizerConfig, GPENFaceEnhancer
from hf_faceenh.models.channels import noise_feature_groups, remove_channels
from hf_faceenh.models.discriminator import FaceDiscriminatorOutput


def random_faces(count=2, size=64, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def blurred(faces, kernel):
    return F.avg_pool2d(faces, kernel, 1, kernel // 2, count_include_pad=False)


def untouched(*networks):
    return all(p.grad is None for network in networks for p in network.parameters())


# Pixels


def test_relative_l1_is_zero_for_the_input_and_the_same_share_on_every_face():
    hq = torch.zeros(2, 3, 8, 8)
    lq = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.8)])  # a mild and a severe one
    assert relative_l1(lq, hq, lq).item() == pytest.approx(0, abs=1e-6)
    halves = [relative_l1(lq[i : i + 1] / 2, hq[i : i + 1], lq[i : i + 1], floor=0).item() for i in (0, 1)]
    assert halves == pytest.approx([math.log(0.5)] * 2)


def test_relative_l1_weighs_harm_on_a_good_face_against_gain_on_a_poor_one():
    hq = torch.zeros(2, 3, 8, 8)
    lq = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.8)])
    smoothing = torch.stack([lq[0] * 2, lq[1] * 0.7])  # lowers the absolute error, ruins the good face
    assert (smoothing - hq).abs().mean() < (lq - hq).abs().mean()
    assert relative_l1(smoothing, hq, lq) > 0


def test_charbonnier_is_l1_that_is_smooth_at_zero():
    hq = torch.zeros(1, 3, 4, 4)
    enhanced = hq.clone().requires_grad_(True)
    charbonnier(enhanced, hq).backward()
    assert charbonnier(hq, hq).item() == pytest.approx(0, abs=1e-9) and enhanced.grad.abs().max() == 0
    assert charbonnier(hq + 0.5, hq).item() == pytest.approx(0.5 - 1e-3, abs=1e-5)
    assert charbonnier(hq + 1e-4, hq).item() == pytest.approx(1e-4**2 / 2e-3, rel=0.01)  # a parabola near 0


# Features of a vision model


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25, image_size=64))


def test_perceptual_loss_is_zero_for_equal_faces_and_grows_with_blur(backbone):
    loss = PerceptualLoss(backbone)
    hq = random_faces()
    assert loss(hq, hq).item() == 0
    assert 0 < loss(blurred(hq, 3), hq) < loss(blurred(hq, 7), hq)


def test_perceptual_loss_trains_the_faces_not_the_backbone(backbone):
    loss = PerceptualLoss(backbone)
    enhanced = torch.zeros(1, 3, 64, 64, requires_grad=True)
    loss(enhanced, random_faces(1)).backward()
    assert enhanced.grad.abs().sum() > 0
    assert untouched(loss)


def test_training_mode_does_not_reach_the_backbone(backbone):
    loss = EnhancerLoss(LossConfig(perceptual_weight=1), perceptual=backbone).train()
    statistics = {name: value.clone() for name, value in backbone.named_buffers()}
    loss.perceptual(random_faces(), random_faces(seed=1))
    assert not any(module.training for module in loss.modules())
    assert all(torch.equal(value, statistics[name]) for name, value in backbone.named_buffers())


def resnet():
    return ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic"))


def vit():
    """Made for 32 px, so that other sizes need its positions interpolated."""
    return ViTModel(
        ViTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32,
            patch_size=8,
        )
    )  # fmt: skip


@pytest.mark.parametrize(("make", "channels"), [(resnet, 8), (vit, 16)])
def test_other_vision_models_can_be_the_backbone(make, channels):
    torch.manual_seed(0)
    loss = PerceptualLoss(make(), layers=(1, 2))
    hq = random_faces()
    enhanced = blurred(hq, 5).requires_grad_(True)
    value = loss(enhanced, hq)
    value.backward()
    assert loss(hq, hq).item() == 0 < value.item() <= 4  # of two vectors of length 1
    assert all(feature.shape[1] == channels for feature in loss.features(hq))
    assert enhanced.grad.abs().sum() > 0


def bert():
    return BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))


def recognizer(distance="euclidean"):
    torch.manual_seed(0)
    return FaceRecognizer(
        FaceRecognizerConfig(stem_channels=4, stage_channels=[4, 8], stage_blocks=[1, 1], distance=distance)
    )


@pytest.mark.parametrize("make", [bert, recognizer, lambda: nn.Linear(1, 1), tiny_enhancer])
def test_what_is_no_backbone_is_refused_in_one_line(make):
    with pytest.raises(ValueError, match="is no perceptual backbone") as caught:
        PerceptualLoss(make())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layers", [(2, 3), ()])
def test_hidden_states_that_the_backbone_has_not_are_refused(layers):
    with pytest.raises(ValueError, match=r"ResNetModel has the hidden states 0 to 2; .* loss.perceptual_layers"):
        PerceptualLoss(resnet(), layers)


# Identity


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_similarity_loss_trains_the_faces_not_the_recognizer(distance):
    loss = SimilarityLoss(recognizer(distance))
    hq = random_faces()
    enhanced = blurred(hq, 5).requires_grad_(True)
    value = loss(enhanced, hq, hq)
    value.backward()
    assert loss(hq, hq, hq).item() == pytest.approx(0, abs=1e-6) and value > 1e-4
    assert value > loss(hq + 0.1 * (enhanced - hq), hq, hq)
    assert enhanced.grad.abs().sum() > 0 and untouched(loss)


@pytest.mark.parametrize("relative", [False, True])
def test_similarity_loss_of_equal_faces_has_a_finite_gradient(relative):
    enhanced = random_faces().requires_grad_(True)
    SimilarityLoss(recognizer(), relative)(enhanced, enhanced.detach(), blurred(enhanced.detach(), 5)).backward()
    assert enhanced.grad.isfinite().all()


def test_relative_similarity_is_0_for_the_poor_face_and_does_not_favour_the_heavily_damaged():
    loss, hq = SimilarityLoss(recognizer(), relative=True), random_faces(2)
    lq = hq + torch.tensor([0.1, 1.0]).view(2, 1, 1, 1) * (blurred(hq, 9) - hq)
    assert loss(lq, hq, lq).item() == pytest.approx(0, abs=1e-5)
    shares = []
    for face in (slice(0, 1), slice(1, 2)):  # the same share of each one's damage is undone
        bare, relative = (
            SimilarityLoss(loss.recognizer, kind)(hq[face] + 0.5 * (lq[face] - hq[face]), hq[face], lq[face])
            for kind in (False, True)
        )
        assert relative < 0
        shares.append((bare.item(), relative.item()))
    (mild, mild_relative), (severe, severe_relative) = shares
    assert severe > 1.5 * mild and abs(severe_relative) < 1.5 * abs(mild_relative)


@pytest.mark.parametrize("make", [resnet, lambda: nn.Linear(1, 1)])
def test_what_is_no_recognizer_is_refused_in_one_line(make):
    with pytest.raises(ValueError, match="is no face recognizer") as caught:
        SimilarityLoss(make())
    assert "\n" not in str(caught.value)


# Distillation


def enhancer(size=32, width=4, style=8, seed=0):
    torch.manual_seed(seed)
    resolutions = size.bit_length() - 2
    return FaceEnhancer(
        sample_size=size,
        encoder_channels=[[width]] + [[width, width]] * (resolutions - 1),
        mapping_channels=[8, style],
        constant_channels=width,
        decoder_channels=[[width, width]] * resolutions,
    )


def gpen(size=32, width=8, style=16):
    torch.manual_seed(1)
    resolutions = size.bit_length() - 2
    return GPENFaceEnhancer(
        sample_size=size,
        encoder_channels=[width] * resolutions,
        mapping_channels=[style, style],
        constant_channels=width,
        decoder_channels=[[width]] + [[width, width]] * (resolutions - 1),
    )


class ForeignEnhancer(nn.Module):
    """Keeps the contract, and has none of our parts."""

    def __init__(self):
        super().__init__()
        self.inner = enhancer(seed=3)
        self.config = self.inner.config

    def forward(self, sample, return_features=False):
        return self.inner(sample, return_features)


TEACHERS = {
    "of the same widths": lambda: enhancer(seed=2),
    "wider": lambda: enhancer(width=12, style=20, seed=2),
    "larger": lambda: enhancer(size=64, width=12, style=20, seed=2),
    "smaller": lambda: enhancer(size=16, width=12, style=20, seed=2),
    "GPEN": gpen,
    "larger GPEN": lambda: gpen(64),
    "of someone else": ForeignEnhancer,
}


@pytest.mark.parametrize("adapters", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", TEACHERS)
def test_distillation_moves_every_feature_of_the_student_and_no_teacher(kind, autocast, adapters):
    teacher, student, lq = TEACHERS[kind](), enhancer(), random_faces(4, 32)
    if isinstance(teacher, ForeignEnhancer) and adapters:
        teacher.device = torch.device("cpu")
    loss = DistillationLoss(teacher, student if adapters else None)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = loss(student(lq, return_features=True), lq)
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite() and value > 0
    assert untouched(teacher)
    features = (student.convolutional_network, student.mapping_network)
    assert all(p.grad.abs().sum() > 0 for part in features for p in part.parameters())
    assert untouched(student.generating_network)
    assert all(p.grad.abs().sum() > 0 for p in loss.adapters.parameters())


def test_distillation_is_zero_for_the_teacher_itself_and_grows_with_the_distance_from_it():
    teacher, lq = enhancer(width=8), random_faces(4, 32)
    loss = DistillationLoss(teacher)
    values = []
    for strength in (0, 0.05, 0.5):
        student = enhancer(width=8)
        torch.manual_seed(4)
        with torch.no_grad():
            for parameter in student.parameters():
                parameter += strength * parameter.std() * torch.randn_like(parameter)
            values.append(loss(student(lq, return_features=True), lq).item())
    assert values[0] == pytest.approx(0, abs=1e-6) and values[0] < values[1] < values[2]


def test_attention_does_not_depend_on_number_order_or_scale_of_channels():
    feature = torch.randn(2, 6, 8, 8)
    doubled = 3 * torch.cat([feature, -feature], dim=1)[:, torch.randperm(12)]
    torch.testing.assert_close(attention_map(doubled, 8), attention_map(feature, 8))
    moved = feature.flip(-1)
    assert (attention_map(moved, 8) - attention_map(feature, 8)).norm() > 0.1
    smaller = attention_map(feature, 4)
    assert smaller.shape == (2, 16) and smaller.norm(dim=1).tolist() == pytest.approx([1, 1])


def test_attribute_distance_of_other_widths_compares_how_the_faces_lie():
    torch.manual_seed(0)
    ours = torch.randn(5, 8)
    turned = 7 * ours @ torch.linalg.qr(torch.randn(12, 8))[0].T  # the same arrangement, in more dimensions
    assert attribute_distance(ours, turned).item() == pytest.approx(0, abs=1e-10)
    assert attribute_distance(ours, torch.randn(5, 12)) > 1e-3
    assert attribute_distance(ours, 3 * ours).item() == pytest.approx(0, abs=1e-6)
    assert attribute_distance(ours, -ours).item() == pytest.approx(2)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_attribute_distance_of_few_or_equal_faces_is_finite(count):
    ours = torch.ones(count, 8, requires_grad=True)
    value = attribute_distance(ours, torch.ones(count, 12))
    value.backward()
    assert value.item() == 0 and ours.grad.isfinite().all()


@pytest.mark.parametrize("make", [enhancer, gpen])
@torch.no_grad()
def test_features_are_those_that_the_enhancer_returns(make):
    network, faces = make(), random_faces(2, 32)
    expected = network(faces, return_features=True)
    noise_features, attribute_feature = features_of(network, faces)
    torch.testing.assert_close(tuple(noise_features), tuple(expected.noise_features))
    torch.testing.assert_close(attribute_feature, expected.attribute_feature)


def test_no_time_is_spent_on_the_teachers_image():
    teacher = gpen()
    teacher.generating_network.forward = None  # calling it would fail
    lq = random_faces(3, 32)
    assert DistillationLoss(teacher)(enhancer()(lq, return_features=True), lq) > 0


@pytest.mark.parametrize("loss", [DistillationLoss, lambda teacher: ImitationLoss(teacher, relative_l1)])
@pytest.mark.parametrize("make", [resnet, recognizer, lambda: nn.Linear(1, 1), lambda: discriminator(16)])
def test_what_is_no_teacher_is_refused_in_one_line(make, loss):
    with pytest.raises(ValueError, match="is no teacher: expected a face enhancer") as caught:
        loss(make())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [32, 64])
def test_imitation_is_the_pixel_loss_with_the_teachers_image_as_the_sharp_one(size):
    teacher, student, lq = enhancer(seed=2, size=size), enhancer(), random_faces(3, 32)
    resized = lq if size == 32 else F.interpolate(lq, size=(size, size), mode="bilinear", align_corners=False)
    theirs = teacher(resized).sample.detach()
    theirs = theirs if size == 32 else F.interpolate(theirs, size=(32, 32), mode="bilinear", antialias=True)
    loss, enhanced = ImitationLoss(teacher, relative_l1), student(lq).sample
    value = loss(enhanced, lq)
    value.backward()
    assert value.item() == pytest.approx(relative_l1(enhanced, theirs, lq).item(), abs=1e-5)
    assert loss(theirs, lq) < loss(0.5 * theirs + 0.5 * lq, lq) < 0
    assert untouched(teacher) and all(p.grad.abs().sum() > 0 for p in student.parameters())


def test_adapters_learn_first_and_then_move_the_student():
    teacher, student, lq = enhancer(width=6, seed=2), enhancer(), random_faces(3, 32)
    loss, plain = DistillationLoss(teacher, student), DistillationLoss(teacher)
    output = student(lq, return_features=True)
    # at 0 they leave the whole of the teacher's feature, and give the student no gradient
    assert (loss(output, lq) - plain(output, lq)).item() == pytest.approx(1, abs=1e-5)
    (without,) = torch.autograd.grad(plain(output, lq), student.convolutional_network.stem.weight, retain_graph=True)
    (first,) = torch.autograd.grad(loss(output, lq), student.convolutional_network.stem.weight, retain_graph=True)
    torch.testing.assert_close(first, without)
    optimizer = torch.optim.Adam(loss.adapters.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss(student(lq, return_features=True), lq).backward()
        optimizer.step()
    assert (loss(output, lq) - plain(output, lq)).item() < 0.8
    (later,) = torch.autograd.grad(loss(output, lq), student.convolutional_network.stem.weight)
    assert not torch.allclose(later, without, rtol=0.05)


@pytest.mark.parametrize("make", [lambda: enhancer(width=6), lambda: gpen(width=6)])
def test_adapters_follow_the_channels_with_their_moments(make):
    student, teacher, lq = make(), enhancer(width=5, seed=2), random_faces(3, 32)
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
    loss.remake_adapters(student, smaller, keep, optimizer)

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


def test_adapters_draw_no_random_numbers_and_are_all_that_is_trained():
    teacher, student = gpen(), enhancer()
    state = torch.random.get_rng_state()
    loss = DistillationLoss(teacher, student)
    assert torch.equal(torch.random.get_rng_state(), state)  # so all processes have the same, and resume to the same
    trained = {name for name, parameter in loss.named_parameters() if parameter.requires_grad}
    assert trained == {f"adapters.{i}.{name}" for i in range(4) for name in ("weight", "bias")}


# Adversarial


class LinearDiscriminator(nn.Module):
    """Its gradient at any face is `direction`."""

    def __init__(self, size=8):
        super().__init__()
        torch.manual_seed(0)
        self.direction = nn.Parameter(torch.randn(3, size, size))

    def forward(self, faces):
        return FaceDiscriminatorOutput(logits=F.linear(faces.flatten(1), self.direction.flatten()[None]))


def discriminator(size=32):
    torch.manual_seed(0)
    blocks = [(4, 4)] * (size.bit_length() - 3)
    return FaceDiscriminator(sample_size=size, stem_channels=4, block_channels=blocks, head_channels=[4, 4])


def test_adversarial_losses_at_known_logits():
    for logit in (-3.0, 0.0, 3.0):
        value = generator_adversarial(torch.full((2, 1), logit))
        assert value.item() == pytest.approx(-math.log(1 / (1 + math.exp(-logit))), rel=1e-5)
    undecided = torch.zeros(2, 1)
    assert discriminator_loss(undecided, undecided).item() == pytest.approx(2 * math.log(2))
    sure = torch.full((2, 1), 20.0)
    assert discriminator_loss(sure, -sure) < 1e-6 and discriminator_loss(-sure, sure).item() == pytest.approx(40)


def test_generator_still_learns_where_the_discriminator_is_sure():
    logits = torch.full((1, 1), -30.0, requires_grad=True)
    generator_adversarial(logits).backward()
    assert logits.grad.item() == pytest.approx(-1)  # a saturating loss would give 1e-13


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


# The two totals

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


@pytest.mark.parametrize("pixel", ["relative_l1", "l1", "charbonnier"])
def test_pixel_loss_by_name(pixel):
    hq = random_faces(2, 32)
    lq = blurred(hq, 5)
    expected = {
        "relative_l1": relative_l1(lq * 0.9, hq, lq),
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


@pytest.mark.parametrize(("every", "from_poor"), [(0, []), (1, [0, 1, 2, 3, 4, 5]), (2, [1, 3, 5]), (3, [2, 5])])
def test_the_discriminator_is_shown_poor_faces_every_so_often(every, from_poor):
    loss, linear = DiscriminatorLoss(LossConfig(poor_every=every)), LinearDiscriminator()
    hq, enhanced, lq = (random_faces(3, 8, seed=seed) for seed in range(3))
    values = [loss(linear, hq, enhanced, lq, step)["discriminator"].item() for step in range(6)]
    of = {faces: discriminator_loss(linear(hq).logits, linear(faces).logits).item() for faces in (enhanced, lq)}
    assert values == pytest.approx([of[lq if step in from_poor else enhanced] for step in range(6)])


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
    with pytest.raises(ValueError, match="no discriminator"):
        EnhancerLoss(LossConfig())(enhancer()(hq), hq, hq)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel": "l2"}, "loss.pixel must be one of relative_l1, l1, charbonnier; got 'l2'"),
        ({"pixel_weight": -1}, "loss.pixel_weight must be at least 0; got -1"),
        ({"r1_weight": math.nan}, "loss.r1_weight must be at least 0; got nan"),
        ({"r1_every": 0}, "loss.r1_every must be at least 1; got 0"),
        ({"poor_every": -1}, "loss.poor_every must be at least 0; got -1"),
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
