import numpy as np
import pytest
import torch
from batches import bomb
from PIL import Image

from hf_faceenh.learning.super_resolution import Crops, Photographs


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
    crops = Crops(pictures, 8, 32, 2, seed=3)
    again = Crops(pictures, 8, 32, 2, seed=3)
    for index in (5, 0):
        for one, other in zip(crops[index], again[index], strict=True):
            assert torch.equal(one, other)
    degraded, sharp = crops[0]
    assert degraded.shape == (3, 16, 16) and sharp.shape == (3, 32, 32)
    assert degraded.min() >= 0 and degraded.max() <= 1 and not torch.equal(sharp, crops[1][1])


@pytest.mark.parametrize("name", ["no/such/folder", "/no_such_folder", "../no_such_folder"])
def test_no_such_folder(name):
    with pytest.raises(ValueError, match=f"--dataset {name}: no such folder"):
        Photographs(name, 32)


def test_a_picture_that_pillow_refuses_is_counted_and_passed_over(photographs):
    (photographs / "bomb.png").write_bytes(bomb())
    found = Photographs(str(photographs), 32)
    assert len(found) == 4 and found.skipped == 3
