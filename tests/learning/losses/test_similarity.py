import pytest
import torch
from torch import nn
from training_pieces import (
    blurred,
    random_faces,
    recognizer,
    resnet,
    untouched,
)

from hf_faceenh.learning.losses import (
    SimilarityLoss,
)


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


def test_relative_similarity_is_0_for_the_degraded_face_and_does_not_favour_the_heavily_damaged():
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
