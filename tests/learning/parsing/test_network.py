from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from labelled_faces import SIZE

from hf_faceenh.learning.parsing import (
    LABELS,
    class_weights,
    load_parser,
    make_model,
    parser_inputs,
    parsing_loss,
    to_pixel_values,
)


def saved(folder, names):
    """A parser into the regions `names`."""
    torch.manual_seed(0)
    parser = make_model(SIZE)
    parser.decode_head.classifier = torch.nn.Conv2d(parser.config.decoder_hidden_size, len(names), 1)
    parser.config.id2label = dict(enumerate(names))
    parser.save_pretrained(folder)
    return parser.eval()


@torch.no_grad()
def test_a_parser_with_fewer_regions_gets_the_others_as_copies_of_its_background(tmp_path):
    names = ["skin", "nose", "background", "l_eye"]
    before, after = saved(tmp_path, names), load_parser(str(tmp_path)).eval()
    assert tuple(after.config.id2label.values()) == LABELS and after.config.label2id["hair"] == LABELS.index("hair")
    face = torch.rand(1, 3, SIZE, SIZE)
    logits = dict(zip(names, before(face).logits[0], strict=True))
    for name, found in zip(LABELS, after(face).logits[0], strict=True):
        torch.testing.assert_close(found, logits.get(name, logits["background"]))


@pytest.mark.parametrize("names", [["background", "skin", "moustache"], ["skin", "nose"]])
def test_a_parser_into_other_regions_is_refused(names, tmp_path):
    saved(tmp_path, names)
    with pytest.raises(ValueError, match="expected a parser into background, skin"):
        load_parser(str(tmp_path))


def test_only_degraded_faces_go_through_the_enhancer():
    """An enhancer that makes everything white."""
    enhancer = torch.nn.Module()
    enhancer.forward = lambda faces, return_dict: (torch.ones_like(faces),)
    enhancer.config, enhancer.device = SimpleNamespace(sample_size=32), torch.device("cpu")
    pictures = torch.full((2, SIZE, SIZE, 3), 100, dtype=torch.uint8)
    degraded = torch.tensor([False, True])
    white = to_pixel_values(torch.ones(1, 3, SIZE, SIZE))[0]
    plain, enhanced = parser_inputs(pictures, degraded, SIZE, enhancer)
    assert torch.equal(enhanced, white) and plain.max() < white.min()
    assert torch.equal(parser_inputs(pictures, ~degraded, SIZE)[0], plain)


def test_loss_falls_to_zero_for_the_truth_and_counts_small_parts():
    ids = torch.zeros(1, 16, 16, dtype=torch.int64)
    ids[0, 4:6, 4:6] = 3
    weights = class_weights(np.bincount(ids.flatten(), minlength=10))
    truth = F.one_hot(ids, 10).permute(0, 3, 1, 2) * 50.0
    background = F.one_hot(torch.zeros_like(ids), 10).permute(0, 3, 1, 2) * 4.0
    assert parsing_loss(truth, ids, weights) < 1e-3
    assert parsing_loss(background, ids, weights) > 0.5
    assert weights[3] / weights[0] == pytest.approx((252 / 4) ** 0.5)
