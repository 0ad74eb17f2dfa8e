"""The plain training loop: one network, one loss, a learning rate that follows the steps."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn


@dataclass(frozen=True)
class LoopSettings:
    """How long a run is, and how often it prints and saves.

    Args:
        steps: of the whole run; the last one is always logged and saved.
        log_every: steps from one printed line to the next.
        save_every: steps from one saved network to the next.
        max_grad_norm: longest gradient; longer ones are shortened to it.
        folder: gets the network.
        seconds: after which the run ends, if its steps have not.
    """

    steps: int
    log_every: int
    save_every: int
    max_grad_norm: float
    folder: Path
    seconds: float = math.inf


def train(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable,
    loss_of: Callable[[nn.Module, Any], torch.Tensor],
    rate_at: Callable[[int], float],
    settings: LoopSettings,
    shown: Callable[[float], str],
    measured: Callable[[nn.Module], str] | None = None,
) -> None:
    """Trains a network, prints a line every few steps and saves the network every few steps.

    Args:
        accelerator: of the run; model, optimiser and batches are prepared here.
        model: network with `save_pretrained`; gets channels last.
        optimizer: of its parameters.
        batches: as many as there are steps.
        loss_of: network and batch → loss.
        rate_at: step, from 0 → share of the optimiser's learning rate.
        settings: how long and how often.
        shown: mean loss since the last line → how the line says it.
        measured: network → what else the line says, if anything; called in the main process alone.
    """
    # One scheduler step per optimiser step on every process: so it is not given to `prepare`, which would take more.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_at)
    model = model.train().to(memory_format=torch.channels_last)
    model, optimizer, batches = accelerator.prepare(model, optimizer, batches)
    start, total = time.time(), 0.0
    for step, batch in enumerate(batches, 1):
        loss = loss_of(model, batch)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += loss.item()
        if time.time() - start >= settings.seconds:
            accelerator.set_trigger()
        last = step == settings.steps or accelerator.check_trigger()  # of any process
        if step % settings.log_every == 0 or last:
            count = (step - 1) % settings.log_every + 1
            line = f"step {step} {shown(total / count)} rate {schedule.get_last_lr()[0]:.2e}"
            total = 0.0
            if measured and accelerator.is_main_process:
                line += f" {measured(accelerator.unwrap_model(model))}"
            accelerator.print(f"{line} {time.time() - start:.0f} s", flush=True)
        if step % settings.save_every == 0 or last:
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                accelerator.unwrap_model(model).save_pretrained(settings.folder)
        if last:
            break
