import json

import numpy as np
import pytest
import torch
from batches import bomb
from PIL import Image

from hf_faceenh.learning.super_resolution import Crops, Photographs
from hf_faceenh.learning.super_resolution.samples import to_pair


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture
def photographs(tmp_path):
    """Four smooth, coloured pictures; one that is too small and one that is broken."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8))
        coarse.resize((64, 72), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    coarse.save(folder / "small.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:200])
    return folder


def test_crops_are_the_same_every_time_and_differ_from_each_other(photographs, monkeypatch, tmp_path):
    pictures = Photographs(str(photographs), 32)
    crops, again = (Crops(pictures, 8, 16, (2,), 1, False, seed=3) for _ in range(2))
    for index in (5, 0):
        for one, other in zip(crops[index], again[index], strict=True):
            assert torch.equal(one, other)
    degraded, sharp, denoise = crops[0]
    assert degraded.shape == (3, 16, 16) and sharp.shape == (3, 32, 32) and denoise == 1
    assert degraded.min() >= 0 and degraded.max() <= 1 and not torch.equal(sharp, crops[1][1])


def test_all_crops_of_a_batch_have_one_scale_and_each_its_amount_of_denoising(photographs):
    crops = Crops(Photographs(str(photographs), 64), 80, 16, (2, 4), 4, True, seed=0)
    batches = [[crops[index] for index in range(start, start + 4)] for start in range(0, 80, 4)]
    scales = [{target.shape[1] // 16 for _, target, _ in batch} for batch in batches]
    assert {len(some) for some in scales} == {1} and set.union(*scales) == {2, 4}
    amounts = torch.stack([denoise for batch in batches for _, _, denoise in batch])
    assert amounts.min() == 0 and amounts.max() == 1 and ((amounts > 0) & (amounts < 1)).any()


def test_what_is_wanted_keeps_the_noise_that_is_not_to_be_removed():
    """Pairs of a flat crop: the target's deviation falls with `denoise` from the input's own to none."""
    flat = np.full((96, 96, 3), 128, np.uint8)

    def deviations(denoise):
        pairs = [to_pair(flat, 2, denoise, np.random.default_rng(seed)) for seed in range(40)]
        return np.array([[small.std() / 255, wanted.std()] for small, wanted in pairs])

    noisy, half, clean = (deviations(denoise) for denoise in (0.0, 0.5, 1.0))
    assert (clean[:, 1] < 1e-6).all() and noisy[:, 0].max() > 8 / 255
    np.testing.assert_allclose(half[:, 1], noisy[:, 1] / 2, rtol=0.05, atol=1e-3)
    some = noisy[:, 1] > 2 / 255  # weaker noise does not outlive compression
    assert np.corrcoef(noisy[some].T)[0, 1] > 0.8


def test_several_datasets_are_drawn_from_by_their_pixels(photographs, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (192, 96)).save(other / "black.png")  # four times one of the others: as much as all of them
    found = Photographs([str(photographs), str(other)], 32)
    rng = np.random.default_rng(0)
    assert len(found) == 5
    assert 0.4 < np.mean([found.draw(rng).max() == 0 for _ in range(300)]) < 0.6


def test_pictures_that_were_enlarged_come_at_the_size_that_they_had(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (64, 64)).save(folder / f"{name}.png")
    lines = [{"file_name": "a.png", "source_crop_px": 40.2}, {"file_name": "b.png", "source_crop_px": 90.0}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = Photographs(str(folder), 32)
    assert [picture.shape for picture in (found[0], found[1])] == [(40, 40, 3), (64, 64, 3)]


@pytest.mark.parametrize("name", ["no/such/folder", "/no_such_folder", "../no_such_folder"])
def test_no_such_folder(name):
    with pytest.raises(ValueError, match=f"--dataset {name}: no such folder"):
        Photographs(name, 32)


def test_a_picture_that_pillow_refuses_is_counted_and_passed_over(photographs):
    (photographs / "bomb.png").write_bytes(bomb())
    found = Photographs(str(photographs), 32)
    assert len(found) == 4 and found.skipped == 3
