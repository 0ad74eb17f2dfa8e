import numpy as np
import torch
import torch.nn.functional as F
from labelled_faces import SIZE, make_faces

from hf_faceenh.learning.parsing import LABELS, LabelledFaces, Samples, parser_inputs, samples


def test_samples_keep_labels_on_the_picture_and_swap_sides_when_mirrored(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "DEGRADED_SHARE", 0)
    monkeypatch.setattr(samples, "GREY_SHARE", 0)
    monkeypatch.setattr(samples, "COVERED_SHARE", 0)
    faces = LabelledFaces(*map(str, make_faces(tmp_path, 1)), "train", 2 * SIZE)
    made = Samples(faces, 12, SIZE, seed=0)
    seen = set()
    for i in range(len(made)):
        picture, _, ids = made[i]
        pixel_values = parser_inputs(picture[None], torch.tensor([False]), SIZE)[0]
        red, green, _ = F.avg_pool2d(pixel_values, 2)
        left, right = (ids == LABELS.index(name) for name in ("l_eye", "r_eye"))
        assert left.nonzero()[:, 1].float().mean() > right.nonzero()[:, 1].float().mean()
        mirrored = (red - green)[left].mean() > 0
        greener, redder = (right, left) if mirrored else (left, right)
        assert ((green - red)[greener] > 0.5).float().mean() > 0.8
        assert ((red - green)[redder] > 0.5).float().mean() > 0.8
        seen.add(bool(mirrored))
    assert seen == {True, False}


def test_samples_are_reproducible(tmp_path):
    faces = LabelledFaces(*map(str, make_faces(tmp_path, 2)), "train", 2 * SIZE)
    first, again = (Samples(faces, 4, SIZE, seed=3) for _ in range(2))
    assert all(torch.equal(first[i][0], again[i][0]) and torch.equal(first[i][2], again[i][2]) for i in range(4))
    assert [first[i][1] for i in range(4)] == [again[i][1] for i in range(4)]
    assert not torch.equal(first[0][0], Samples(faces, 4, SIZE, seed=4)[0][0])


def test_a_cover_hides_little_and_changes_no_label(tmp_path, monkeypatch):
    faces = LabelledFaces(*map(str, make_faces(tmp_path, 1)), "train", 2 * SIZE)
    for name in ("DEGRADED_SHARE", "GREY_SHARE"):
        monkeypatch.setattr(samples, name, 0)
    monkeypatch.setattr(samples, "COVERED_SHARE", 0)
    bare = Samples(faces, 40, SIZE, seed=0)
    bare = [bare[i] for i in range(40)]
    monkeypatch.setattr(samples, "COVERED_SHARE", 1)
    covered = Samples(faces, 40, SIZE, seed=0)
    covered = [covered[i] for i in range(40)]
    changed = [float((a[0] != b[0]).any(dim=2).float().mean()) for a, b in zip(bare, covered, strict=True)]
    assert 0.01 < np.mean(changed) < 0.3 and max(changed) < 0.7
    assert all(torch.equal(a[2], b[2]) for a, b in zip(bare, covered, strict=True))
