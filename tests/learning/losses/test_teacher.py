from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_codeformer
from torch import nn
from training_pieces import (
    discriminator,
    enhancer,
    gfpgan,
    gpen,
    random_faces,
    recognizer,
    resnet,
)

from hf_faceenh.learning.losses import (
    DistillationLoss,
    ImitationLoss,
    relative_l1,
)
from hf_faceenh.learning.losses.teacher import features_of


@pytest.mark.parametrize("make", [enhancer, gpen, gfpgan])
@torch.no_grad()
def test_features_are_those_that_the_enhancer_returns(make):
    network, faces = make(), random_faces(2, 32)
    expected = network(faces, return_features=True)
    noise_features, attribute_feature = features_of(network, faces)
    torch.testing.assert_close(tuple(noise_features), tuple(expected.noise_features))
    torch.testing.assert_close(attribute_feature, expected.attribute_feature)


@pytest.mark.parametrize("loss", [DistillationLoss, lambda teacher: ImitationLoss(teacher, relative_l1)])
@pytest.mark.parametrize("make", [resnet, recognizer, lambda: nn.Linear(1, 1), lambda: discriminator(16)])
def test_what_is_no_teacher_is_refused_in_one_line(make, loss):
    with pytest.raises(ValueError, match="is no teacher: expected a face enhancer") as caught:
        loss(make())
    assert "\n" not in str(caught.value)


class Painter(nn.Module):
    """An enhancer without features, as CodeFormer is one."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(sample_size=16)
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, sample, return_dict=True):
        return (self.layer(sample),)


def test_an_enhancer_without_features_is_imitated_and_not_distilled():
    loss = ImitationLoss(Painter(), relative_l1)
    faces = random_faces(2, 32)
    assert loss(random_faces(2, 32), faces).isfinite()
    with pytest.raises(ValueError, match="features of a Painter are not a student's. Learn from its images instead"):
        DistillationLoss(Painter())


@pytest.mark.parametrize("make", [lambda: tiny_codeformer(32), gfpgan])
def test_a_student_comes_nearer_to_the_images_of_a_published_teacher(make):
    student, faces = enhancer(width=8), random_faces(4, 32)
    loss = ImitationLoss(make(), lambda enhanced, theirs, lq: F.l1_loss(enhanced, theirs))
    optimizer = torch.optim.Adam(student.parameters(), 5e-3)
    errors = []
    for _ in range(60):
        error = loss(student(faces).sample, faces)
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.75 * errors[0]
