import logging
import tracemalloc

import numpy as np
import pytest
import torch
from batches import SIDE, as_set, assert_same, loader

from hf_faceenh.learning.data import (
    Coefficients,
    FacePairs,
    check_sizes,
    load_faces,
    training_loader,
    undecoded,
    weighed,
)
from hf_faceenh.learning.data.reader import Reader
from hf_faceenh.learning.degradation import TYPES, Degradation


@pytest.mark.parametrize("kind", ["map", "stream"])
def test_batches_are_stacked_pairs_with_tags(tables, kind):
    batches = list(loader(tables[kind]))
    assert len(batches) == 8
    assert batches[0]["hq"].shape == batches[0]["lq"].shape == (2, SIDE, SIDE, 3)
    assert batches[0]["hq"].dtype == batches[0]["lq"].dtype == torch.uint8
    assert batches[0]["side"].shape == (2,) and batches[0]["tags"].dtype == torch.float32
    assert batches[0]["tags"].shape == (2, len(TYPES)) and batches[0]["tags"].max() <= 0.5
    assert len(set(as_set(batches))) == 16  # two epochs, each face degraded in another way


def test_a_table_gives_the_same_batches_for_any_number_of_workers(tables):
    expected = list(loader(tables["map"]))
    for workers in (1, 2):
        assert_same(expected, loader(tables["map"], num_workers=workers))


def test_a_stream_gives_the_same_pictures_for_any_number_of_workers(tables):
    """In another order: the workers share out the files."""
    expected = as_set(loader(tables["stream"]))
    for workers in (1, 2):
        assert as_set(loader(tables["stream"], num_workers=workers)) == expected
        assert_same(loader(tables["stream"], num_workers=workers), loader(tables["stream"], num_workers=workers))


def test_an_epoch_has_every_face_once_in_an_order_of_its_own(folder):
    faces = load_faces(str(folder))
    plain = FacePairs(Degradation(), 40, shift=0, scale=0, rotation=0, relight=None)
    settings = {"batches_per_round": 100, "batch_size": 8, "rank": 0, "world_size": 1, "seed": 0, "num_workers": 0}
    coefficients = Coefficients()
    coefficients.publish(0, {})
    orders = []
    for batch in training_loader(faces, plain, coefficients, batches=3, first_batch=0, **settings):
        blues = batch["hq"][..., 2].amin(dim=(1, 2))  # 5 · index
        orders.append((blues / 5).round().int().tolist())
    assert all(sorted(order) == list(range(8)) for order in orders) and orders[0] != orders[1]


@pytest.mark.parametrize(("kind", "workers"), [("map", 0), ("map", 2), ("stream", 0), ("stream", 2)])
@pytest.mark.parametrize("first", [4, 5])
def test_a_resumed_loader_goes_on_with_the_same_batches(tables, kind, workers, first):
    straight = list(loader(tables[kind], num_workers=workers))
    assert_same(straight[first:], loader(tables[kind], num_workers=workers, first_batch=first))


def test_a_resumed_stream_does_not_decode_what_it_passes_over(tables, monkeypatch):
    decoded = []
    original = Reader.__call__
    monkeypatch.setattr(Reader, "__call__", lambda *a: decoded.append(a) or original(*a))
    assert len(list(loader(tables["stream"], first_batch=6))) == 2
    assert len(decoded) == 4


def test_two_processes_see_the_draws_of_one_with_the_double_batch(tables):
    whole = list(loader(tables["map"], batch_size=4))
    parts = [list(loader(tables["map"], rank=rank, world_size=2)) for rank in (0, 1)]
    for batch, *halves in zip(whole, *parts, strict=True):
        for name, values in batch.items():
            np.testing.assert_array_equal(values, np.concatenate([half[name] for half in halves]))


@pytest.mark.parametrize("source", ["folder", "parquet"])
def test_two_processes_share_out_a_stream(folder, parquet, source):
    """A folder is one file to a stream, or as many as it has pictures; both ways each face goes to one process."""
    faces = load_faces(str({"folder": folder, "parquet": parquet}[source]), streaming=True)
    parts = [as_set(loader(faces, rank=rank, world_size=2, batches=2)) for rank in (0, 1)]
    assert sorted(parts[0] + parts[1]) == as_set(loader(faces, batches=4))


def test_workers_beyond_the_files_of_a_stream_are_not_started(parquet, caplog):
    stream = load_faces(str(parquet / "0.parquet"), streaming=True)
    with caplog.at_level(logging.WARNING):
        assert as_set(loader(stream, num_workers=2)) == as_set(loader(stream))
    assert "1 file(s) per process" in caplog.text


# Weights


@pytest.fixture
def weighted(folder):
    """The eight faces, of which those with an odd number weigh a fourth; undecoded, with their weights."""
    faces = load_faces(str(folder))
    return undecoded(faces).add_column("weight", [0.25 if index % 2 else 1.0 for index in range(8)])


def drawn(faces, batches, **settings):
    """How often each of the eight faces comes."""
    plain = FacePairs(Degradation(), 40, shift=0, scale=0, rotation=0, relight=None)
    settings = {"batches_per_round": 1000, "batch_size": 8, "rank": 0, "world_size": 1, "seed": 0, "num_workers": 0}
    coefficients = Coefficients()
    coefficients.publish(0, {})
    made = training_loader(faces, plain, coefficients, batches=batches, first_batch=0, **settings)
    blues = torch.cat([batch["hq"][..., 2].amin(dim=(1, 2)) for batch in made])
    return np.bincount((blues / 5).round().int().numpy(), minlength=8)


def test_an_epoch_of_a_table_draws_each_face_as_often_as_its_weight_says(weighted):
    counts = drawn(weighted, 40)
    assert counts.sum() == 320
    np.testing.assert_allclose(counts, [64, 16] * 4, atol=8)
    one = drawn(weighted, 1)
    assert set(one[::2]) <= {1, 2} and set(one[1::2]) <= {0, 1}  # 1.6 and 0.4, rounded up or down


def test_a_face_of_a_stream_takes_part_in_as_many_epochs_as_its_weight_says(weighted, tmp_path):
    weighted.to_parquet(tmp_path / "faces.parquet")
    stream = undecoded(load_faces(str(tmp_path / "faces.parquet"), streaming=True), also=["weight"])
    counts = drawn(stream, 40)
    epochs = counts[::2]  # how many make 320 draws depends on the files' checksums, which change with libraries
    assert np.ptp(epochs) <= 1
    np.testing.assert_allclose(counts[1::2], epochs.mean() / 4, atol=14)  # four standard deviations


@pytest.mark.parametrize("streaming", [False, True])
def test_weighted_batches_are_the_same_after_a_resume_and_for_any_number_of_workers(weighted, tmp_path, streaming):
    for index in range(2):
        weighted.shard(2, index).to_parquet(tmp_path / f"{index}.parquet")
    faces = weighed(load_faces(str(tmp_path), streaming=streaming), 32) if streaming else weighted
    straight = list(loader(faces, num_workers=2))
    assert_same(straight[3:], loader(faces, num_workers=2, first_batch=3))
    other = loader(faces, num_workers=0)
    assert as_set(other) == as_set(straight) if streaming else not assert_same(other, straight)
    whole, parts = loader(faces, batch_size=4), [loader(faces, rank=rank, world_size=2) for rank in (0, 1)]
    assert streaming or as_set(whole) == sorted(as_set(parts[0]) + as_set(parts[1]))


# Broken pictures


@pytest.mark.parametrize(("streaming", "workers"), [(False, 0), (False, 2), (True, 0), (True, 2)])
def test_broken_pictures_are_replaced_and_counted_once(with_broken, streaming, workers):
    faces = load_faces(str(with_broken), streaming=streaming)
    running = loader(faces, batches=22, num_workers=workers)  # four epochs
    assert running.broken == 0
    batches = list(running)
    assert len(batches) == 22 and all(batch["hq"].any() for batch in batches)
    assert running.broken == 3
    if workers == 0 or not streaming:
        assert_same(batches, loader(faces, batches=22, num_workers=0))
    assert_same(batches[7:], loader(faces, batches=22, num_workers=workers, first_batch=7))


def test_a_broken_picture_is_named_once(with_broken, caplog):
    with caplog.at_level(logging.WARNING):
        list(loader(load_faces(str(with_broken)), batches=22))
    assert len(caplog.messages) == 3
    assert any("oblong.png is 40×50 px, not square; it is passed over" in line for line in caplog.messages)


@pytest.mark.parametrize("streaming", [False, True])
def test_nothing_but_broken_pictures_is_an_error(tmp_path, streaming):
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(b"no picture %d" % index)
    faces = load_faces(str(tmp_path), streaming=streaming)
    with pytest.raises(ValueError, match="None of the dataset's pictures"):
        next(iter(loader(faces)))
    with pytest.raises(ValueError, match="None of the first .* pictures can be read"):
        check_sizes(faces, SIDE)


# A run of any length


def test_a_run_of_a_thousand_million_draws_needs_no_list_of_them(tables):
    tracemalloc.start()
    running = loader(tables["map"], batches=10**9 // 2, batches_per_round=10**9)
    first = next(iter(running))
    last = list(loader(tables["map"], batches=10**9 // 2, first_batch=10**9 // 2 - 2, batches_per_round=10**9))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(running._batches) == 10**9 // 2 and peak < 5e6
    assert_same([first], list(loader(tables["map"], batches=1, batches_per_round=10**9)))
    assert len(last) == 2
