import pytest
import torch
from torch import nn
from training_pieces import (
    enhancer,
    gpen,
    random_faces,
    untouched,
)

from hf_faceenh.learning.losses import (
    DistillationLoss,
    attention_map,
    attribute_distance,
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


def test_no_time_is_spent_on_the_teachers_image():
    teacher = gpen()
    teacher.generating_network.forward = None  # calling it would fail
    lq = random_faces(3, 32)
    assert DistillationLoss(teacher)(enhancer()(lq, return_features=True), lq) > 0


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


def test_adapters_draw_no_random_numbers_and_are_all_that_is_trained():
    teacher, student = gpen(), enhancer()
    state = torch.random.get_rng_state()
    loss = DistillationLoss(teacher, student)
    assert torch.equal(torch.random.get_rng_state(), state)  # so all processes have the same, and resume to the same
    trained = {name for name, parameter in loss.named_parameters() if parameter.requires_grad}
    assert trained == {f"adapters.{i}.{name}" for i in range(4) for name in ("weight", "bias")}
