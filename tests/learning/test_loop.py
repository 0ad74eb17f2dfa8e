"""The loop that parser and super-resolver are trained with."""

import re
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from hf_faceenh.learning import loop


class Scale(torch.nn.Module):
    """One weight; keeps at which value it was saved."""

    def __init__(self):
        super().__init__()
        self.weight, self.saved = torch.nn.Parameter(torch.zeros(())), []

    def save_pretrained(self, folder):
        self.saved.append((folder, self.weight.item()))


@pytest.fixture
def trained(capsys):
    """Five steps of SGD on a loss with gradient -4, shortened to -1; the rates 1, 0.8 … 0.2."""
    model = Scale()
    loop.train(
        Accelerator(cpu=True),
        model,
        torch.optim.SGD(model.parameters(), lr=1.0),
        [torch.tensor(float(step)) for step in range(5)],
        lambda model, batch: 100 + batch - 4 * (model.weight - model.weight.detach()),
        lambda step: 1 - step / 5,
        loop.LoopSettings(steps=5, log_every=2, save_every=3, max_grad_norm=1.0, folder=Path("here")),
        shown=lambda loss: f"loss {loss:.2f}",
        measured=lambda model: f"weight {model.weight.item():.2f}",
    )
    return model, capsys.readouterr().out.splitlines()


def test_a_run_ends_when_its_time_is_up(capsys):
    model = Scale()
    loop.train(
        Accelerator(cpu=True),
        model,
        torch.optim.SGD(model.parameters(), lr=1.0),
        [torch.zeros(())] * 5,
        lambda model, batch: model.weight,
        lambda step: 1,
        loop.LoopSettings(steps=5, log_every=9, save_every=9, max_grad_norm=1.0, folder=Path("here"), seconds=0),
        shown=lambda loss: f"loss {loss:.2f}",
    )
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["1"]
    assert len(model.saved) == 1


def test_lines_have_the_mean_since_the_last_one_and_the_next_rate(trained):
    lines = [re.sub(r" \d+ s$", "", line) for line in trained[1]]
    assert lines == [
        "step 2 loss 100.50 rate 6.00e-01 weight 1.80",
        "step 4 loss 102.50 rate 2.00e-01 weight 2.80",
        "step 5 loss 104.00 rate 0.00e+00 weight 3.00",
    ]


def test_the_network_is_saved_every_few_steps_and_at_the_end(trained):
    saved = trained[0].saved
    assert [folder for folder, _ in saved] == [Path("here")] * 2
    assert [weight for _, weight in saved] == pytest.approx([2.4, 3.0], abs=1e-5)
