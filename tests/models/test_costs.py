"""Counting multiply-accumulates."""

import torch

from hf_faceenh.models.costs import multiply_accumulates, multiply_accumulates_within


def test_a_block_counts_what_its_networks_compute():
    network = torch.nn.Conv2d(3, 5, 3, padding=1)
    one = multiply_accumulates(network, (1, 3, 8, 8))
    assert one == 5 * 3 * 9 * 64
    with multiply_accumulates_within() as count:
        network(torch.zeros(2, 3, 8, 8))
        network(torch.zeros(1, 3, 8, 8))
    network(torch.zeros(1, 3, 8, 8))
    assert count() == 3 * one
