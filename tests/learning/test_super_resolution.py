import numpy as np
import pytest
import torch
from batches import bomb
from PIL import Image

from hf_faceenh.learning.super_resolution import Crops, Photographs, evaluate
from hf_faceenh.models.super_resolver import SuperResolver


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


def test_evaluation_measures_what_it_says():
    """A network that only enlarges (nearest) is worse than bicubic on smooth pictures, and keeps more noise."""
    model = SuperResolver("compact", 2, num_feat=4, num_conv=1).eval()
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
    coarse = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((96, 80), Image.Resampling.BICUBIC))
    figures = evaluate(model, [picture])
    for row in figures.values():
        assert row["psnr_ours"] < row["psnr_bicubic"]
        assert row["flat_noise_ours"] > row["flat_noise_bicubic"]
    assert figures["poor"]["psnr_bicubic"] < figures["clean"]["psnr_bicubic"]


def test_crops_are_the_same_every_time_and_differ_from_each_other(photographs, monkeypatch, tmp_path):
    pictures = Photographs(str(photographs), 32)
    crops = Crops(pictures, 8, 32, 2, seed=3)
    again = Crops(pictures, 8, 32, 2, seed=3)
    for index in (5, 0):
        for one, other in zip(crops[index], again[index], strict=True):
            assert torch.equal(one, other)
    poor, sharp = crops[0]
    assert poor.shape == (3, 16, 16) and sharp.shape == (3, 32, 32)
    assert poor.min() >= 0 and poor.max() <= 1 and not torch.equal(sharp, crops[1][1])


@pytest.mark.parametrize("name", ["no/such/folder", "/no_such_folder", "../no_such_folder"])
def test_no_such_folder(name):
    with pytest.raises(ValueError, match=f"--dataset {name}: no such folder"):
        Photographs(name, 32)


def test_a_picture_that_pillow_refuses_is_counted_and_passed_over(photographs):
    (photographs / "bomb.png").write_bytes(bomb())
    found = Photographs(str(photographs), 32)
    assert len(found) == 4 and found.skipped == 3
