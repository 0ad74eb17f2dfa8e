"""Photographs on their way: full batches, in order, within the bound of pixels."""

from collections import deque
from dataclasses import replace

import pytest
import torch

from hf_faceenh.faces import EnhancedFace, Reason
from hf_faceenh.pictures import ImageInfo, LoadedImage
from hf_faceenh.window import Photograph, walk


def photograph(wanted, area=10, left_alone=0):
    face = EnhancedFace((0, 0, 1, 1), None, 1.0, None, 1.0)
    alone = EnhancedFace((0, 0, 1, 1), None, 1.0, None, 1.0, reason=Reason.TOO_SMALL)
    one = Photograph(LoadedImage(torch.zeros(3, 1, area), None, ImageInfo()))
    one.faces = [alone] * left_alone + [face] * wanted
    return one


def walked(photographs, batch_size, largest):
    """The sizes of the batches, and what happens in which order: `begin 0`, `enhance 8`, `done 0`."""
    names = {id(one): index for index, one in enumerate(photographs)}
    events, at_once = [], []
    under_way = set()

    def begin(one):
        under_way.add(names[id(one)])
        at_once.append(sum(photographs[index].area for index in under_way))
        events.append(f"begin {names[id(one)]}")

    def enhance(batch):
        events.append(f"enhance {len(batch)}")
        for one, index in batch:
            assert one.faces[index].reason is None
            one.enhanced.append(index)

    for one in walk(deque(photographs), begin, enhance, batch_size, largest):
        assert one.enhanced == one.wanted
        under_way.remove(names[id(one)])
        events.append(f"done {names[id(one)]}")
    return events, at_once


def test_faces_of_several_photographs_share_a_batch():
    events, _ = walked([photograph(1), photograph(0), photograph(2, left_alone=3), photograph(2)], 3, 1000)
    assert events == [
        "begin 0", "begin 1", "begin 2", "enhance 3", "done 0", "done 1", "done 2", "begin 3", "enhance 2", "done 3",
    ]  # fmt: skip


def test_a_photograph_without_faces_waits_for_nothing():
    assert walked([photograph(0)] * 1, 8, 1)[0] == ["begin 0", "done 0"]
    events, at_once = walked([photograph(0) for _ in range(4)], 8, 1)
    assert events[:4] == ["begin 0", "done 0", "begin 1", "done 1"] and max(at_once) == 10


@pytest.mark.parametrize("largest", [1, 10, 25, 60])
def test_no_more_than_so_many_pixels_are_on_their_way(largest):
    events, at_once = walked([photograph(1) for _ in range(9)], 4, largest)
    assert max(at_once) <= max(largest, 10)
    batches = [event for event in events if event.startswith("enhance")]
    full = min(4, max(1, largest // 10))
    assert batches[0] == f"enhance {full}" and len(batches) == -(-9 // full)
    assert [event for event in events if event.startswith("done")] == [f"done {index}" for index in range(9)]


def test_the_queue_lets_go_of_what_it_yields():
    queue = deque([photograph(1), photograph(1)])
    for done in walk(queue, lambda _: None, lambda batch: [one.enhanced.append(0) for one, _ in batch], 1, 1):
        assert done not in queue
    assert not queue


def test_a_face_of_which_nothing_is_taken_is_left_alone():
    one = photograph(3)
    wanted_at = [(1.0, 1.0), (1.0, 0.01), (0.02, 0.02)]  # strength, and the mask with it
    for index, (strength, share) in enumerate(wanted_at):
        one.faces[index] = replace(one.faces[index], strength=strength, identity_distance=0.0)
        crop, labels = torch.rand(3, 8, 8), torch.zeros(8, 8, dtype=torch.uint8)
        one.add(index, crop, crop, labels, torch.full((1, 8, 8), share), 1, show=lambda pixels: pixels)
    taken, alone, faint = one.faces
    assert taken.reason is faint.reason is None and faint.mask.max() > 0  # so little was asked for
    assert alone.reason is Reason.NO_GAIN and alone.crop is not None and alone.mask is None
    assert alone.strength == 0 and alone.identity_distance is None
    assert one.is_done and one.wanted == [0, 2]
