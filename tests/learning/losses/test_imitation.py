import pytest
import torch.nn.functional as F
from training_pieces import (
    enhancer,
    random_faces,
    untouched,
)

from hf_faceenh.learning.losses import (
    ImitationLoss,
    relative_l1,
)


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
