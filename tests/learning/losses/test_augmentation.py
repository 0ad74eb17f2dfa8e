import torch
from training_pieces import random_faces

from hf_faceenh.learning.losses import augmented


def test_the_seed_decides_everything():
    faces = random_faces(4, 32)
    assert torch.equal(augmented(faces, 0.5, seed=1), augmented(faces, 0.5, seed=1))
    assert not torch.equal(augmented(faces, 0.5, seed=1), augmented(faces, 0.5, seed=2))
    assert augmented(faces, 0.0, seed=1) is faces


def test_every_face_is_changed_in_its_own_way():
    faces = random_faces(1, 32).expand(3, -1, -1, -1)
    one, two, three = augmented(faces, 0.5, seed=0)
    assert not torch.equal(one, two) and not torch.equal(two, three)


def test_the_square_covers_a_quarter_at_full_strength_and_gets_no_gradient():
    faces = (random_faces(5, 32) * 0 + 0.5).requires_grad_(True)
    result = augmented(faces, 1.0, seed=3)
    covered = (result == 0).all(dim=1).sum(dim=(1, 2))
    assert covered.tolist() == [16 * 16] * 5
    result.sum().backward()
    assert faces.grad.abs().sum() > 0
    assert torch.autograd.grad(augmented(faces, 1.0, seed=3)[result == 0].sum(), faces)[0].abs().max() == 0


def test_faces_are_shifted_by_at_most_an_eighth():
    places = torch.arange(64.0).expand(20, 3, 64, 64) / 64  # brightness says where a column came from
    strength = 1e-9  # no colour, no square
    assert torch.allclose(augmented(places, strength, seed=0), places)
    moved = augmented(places, 1.0, seed=0)
    # Brightness and contrast move all columns alike; the step from one column to the next breaks where mirrored.
    steps = moved[:, 0, 0].diff(dim=1).sign()
    mirrored = [int((row * row.sum().sign() < 0).sum()) for row in steps]
    assert max(mirrored) <= 8 + 1 and len(set(mirrored)) > 1


def test_it_waits_for_no_value():
    """On the meta device there are no values: whatever asks for one, and on a GPU would wait for it, fails."""
    assert augmented(torch.empty(2, 3, 32, 32, device="meta"), 0.5, seed=0).is_meta
