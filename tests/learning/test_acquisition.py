"""The samples of a run, from files to tensors."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from batches import SIDE, picture
from PIL import Image

from hf_faceenh import SuperResolver
from hf_faceenh.learning.acquisition import Acquisition
from hf_faceenh.learning.options import TrainingOptions
from hf_faceenh.learning.pipeline_input import PipelineInput
from hf_faceenh.learning.reduction import ReductionConfig
from hf_faceenh.learning.schedule import Progress


@pytest.fixture
def folders(tmp_path):
    """Two folders of four faces each."""
    for index in range(8):
        folder = tmp_path / ("first" if index < 4 else "second")
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture(index)).save(folder / f"{index}.png")
    return [str(tmp_path / "first"), str(tmp_path / "second")]


def tiny_super_resolver():
    torch.manual_seed(0)
    return SuperResolver(num_feat=4, num_conv=1)


def acquisition(dataset, step=0, **changes):
    settings = {"rounds": 1, "tune_rounds": 1, "steps_per_round": 8, "batch_size": 2, "num_workers": 0} | changes
    settings["reduction"] = ReductionConfig(target=1)
    options = TrainingOptions(dataset=dataset, output_dir=Path("out"), assessed_faces=2, **settings)
    made = Acquisition(options, SIDE, Accelerator(cpu=True))
    made.begin(Progress(phase="tune", step=step))
    return made


def samples(made, steps):
    return [batch for _ in range(steps) for batch in made.samples()]


def test_samples_are_the_pairs_as_networks_take_them(folders):
    made = acquisition(folders[0])
    expected = list(made.loader)
    for batch, bytes_of in zip(samples(made, 8), expected, strict=True):
        assert batch.keys() == {"hq", "lq", "tags"}
        for name in ("hq", "lq"):
            assert batch[name].shape == (2, 3, SIDE, SIDE) and batch[name].dtype == torch.float32
            assert batch[name].is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close((batch[name] + 1) * 127.5, bytes_of[name].permute(0, 3, 1, 2).float())


def test_several_datasets_are_one(folders):
    """All eight faces come in one epoch, which are four batches."""

    drawn = acquisition(folders).loader._batches.dataset
    assert sorted(drawn._face(draw)[..., 2].min() for draw in range(8)) == list(range(0, 40, 5))  # 5 · index


def test_a_share_of_the_faces_is_shown_as_the_pipeline_shows_them(folders, tmp_path):
    super_resolver = tiny_super_resolver()
    super_resolver.save_pretrained(tmp_path / "super_resolver")
    plain = acquisition(folders)
    seen = samples(acquisition(folders, super_resolver=str(tmp_path / "super_resolver"), super_resolved_share=0.6), 8)
    shown = PipelineInput(super_resolver, 0.6, seed=0)
    changed = []
    for number, (batch, bytes_of) in enumerate(zip(samples(plain, 8), plain.loader, strict=True)):
        expected = shown(batch["lq"], bytes_of["side"].tolist(), number)
        torch.testing.assert_close(seen[number]["lq"], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(seen[number]["hq"], batch["hq"])
        changed += (expected != batch["lq"]).flatten(1).any(dim=1).tolist()
    assert 4 < sum(changed) < 15


def test_a_resumed_run_sees_the_same_faces_in_the_same_way(folders, tmp_path):
    tiny_super_resolver().save_pretrained(tmp_path / "super_resolver")
    settings = {"super_resolver": str(tmp_path / "super_resolver")}
    straight = samples(acquisition(folders, **settings), 8)
    resumed = samples(acquisition(folders, step=5, **settings), 3)
    for one, other in zip(straight[5:], resumed, strict=True):
        for name in one:
            torch.testing.assert_close(one[name], other[name], atol=1e-6, rtol=0)


def test_what_cannot_be_used_is_one_line(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    for changes, message in (
        ({"super_resolver": str(tmp_path / "empty")}, "not a SuperResolver"),
        ({"super_resolved_share": 1.5}, "--super_resolved_share must be in"),
        ({"dataset": []}, "--dataset names no dataset"),
        ({"dataset": [folders[0], str(tmp_path / "empty")]}, "empty is empty or holds no pictures"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            acquisition(**{"dataset": folders[0]} | changes)
        assert "\n" not in str(error.value)
