import pytest
import torch
from torch import nn
from training_pieces import (
    discriminator,
    enhancer,
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


@pytest.mark.parametrize("make", [enhancer, gpen])
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
