from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from labelled_faces import SIZE

from hf_faceenh.learning.parsing import class_weights, parser_inputs, parsing_loss, to_pixel_values


def test_only_degraded_faces_go_through_the_enhancer():
    """An enhancer that makes everything white."""
    enhancer = torch.nn.Module()
    enhancer.forward = lambda faces, return_dict: (torch.ones_like(faces),)
    enhancer.config, enhancer.device = SimpleNamespace(sample_size=32), torch.device("cpu")
    pictures = [np.full((SIZE, SIZE, 3), 100, np.uint8)] * 2
    white = to_pixel_values(np.full((SIZE, SIZE, 3), 255, np.uint8))
    plain, enhanced = parser_inputs(pictures, [False, True], SIZE, enhancer)
    assert torch.equal(enhanced, white) and torch.equal(plain, to_pixel_values(pictures[0]))
    assert torch.equal(parser_inputs(pictures, [True, True], SIZE)[1], plain)


def test_loss_falls_to_zero_for_the_truth_and_counts_small_parts():
    ids = torch.zeros(1, 16, 16, dtype=torch.int64)
    ids[0, 4:6, 4:6] = 3
    weights = class_weights(np.bincount(ids.flatten(), minlength=10))
    truth = F.one_hot(ids, 10).permute(0, 3, 1, 2) * 50.0
    background = F.one_hot(torch.zeros_like(ids), 10).permute(0, 3, 1, 2) * 4.0
    assert parsing_loss(truth, ids, weights) < 1e-3
    assert parsing_loss(background, ids, weights) > 0.5
    assert weights[3] / weights[0] == pytest.approx((252 / 4) ** 0.5)
