"""Trains a SuperResolver on photographs: any folders of them, or `datasets` names.

    accelerate launch training/train_super_resolver.py --dataset PHOTOGRAPHS --output_dir OUT
    python training/train_super_resolver.py --dataset PHOTOGRAPHS --evaluate OUT/super_resolver

hf_faceenh/learning/super_resolution/samples.py says what it learns from.
"""

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from hf_faceenh.allocator import keep_freed_memory
from hf_faceenh.learning import loop
from hf_faceenh.learning.metrics import FLAT
from hf_faceenh.learning.rates import cosine, warm_up
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.super_resolution import (
    Crops,
    Photographs,
    as_cells,
    evaluate,
    load_super_resolver,
    make_super_resolver,
    psnr_of,
    table,
)
from hf_faceenh.models.super_resolver import SuperResolver

LONGEST_GRADIENT = 20.0  # of the loss in dB
WARM_UP = 200  # steps


@dataclass
class Options:
    """Settings of `training/train_super_resolver.py`.

    Args:
        dataset: folders of photographs, or `datasets` names with an image.
        output_dir: gets super_resolver/.
        init: SuperResolver (folder or Hub name) to go on from, instead of random weights; a residual
            one goes on as one of cells, with the scales and denoising of new weights.
        evaluate: train nothing; print the PSNR of this SuperResolver on the dataset.
        steps: of training, at most.
        minutes: of training, at most; the learning rate falls by what is used up first.
        batch_size: crops per process and step.
        learning_rate: of Adam; falls to 0 as a cosine.
        seed: of everything random.
        num_workers: processes per process that make the crops.
        mixed_precision: bf16 computes forward and backward passes in bfloat16.
        scales: factors of new weights, each in one pass; the first is the default one.
        denoising: whether new weights take a wanted amount of denoising.
        architecture: of new weights.
        num_feat: channels of new weights.
        num_block: of the architectures cells and residual.
        num_conv: of the compact architecture.
        anti_ringing: of new weights; see SuperResolver.
        input_size: side of the inputs in px.
        log_every: steps from one printed line to the next.
        save_every: steps from one saved network to the next.
    """

    dataset: list[str]
    output_dir: Path = Path("output")
    init: str | None = None
    evaluate: str | None = None
    steps: int = 20000
    minutes: float | None = None
    batch_size: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    num_workers: int = 2
    mixed_precision: Literal["no", "bf16"] = "no"
    scales: list[Literal[1, 2, 4]] = field(default_factory=lambda: [2, 4])
    denoising: bool = True
    architecture: Literal["cells", "compact", "residual"] = "cells"
    num_feat: int = 48
    num_block: int = 5
    num_conv: int = 10
    anti_ringing: bool = True
    input_size: int = 64
    log_every: int = 50
    save_every: int = 500


def new_model(options: Options) -> SuperResolver:
    names = ("architecture", "scales", "denoising", "num_feat", "num_conv", "num_block", "anti_ringing")
    return make_super_resolver(scale=options.scales[0], **{name: getattr(options, name) for name in names})


def train(options: Options) -> None:
    keep_freed_memory()
    accelerator = Accelerator(mixed_precision=options.mixed_precision)
    set_seed(options.seed)
    model = load_super_resolver(options.init) if options.init else new_model(options)
    if model.config.architecture == "residual" and options.architecture == "cells":
        model = as_cells(model, options.scales, options.denoising)
    accelerator.print(json.dumps(vars(options), default=str), flush=True)
    photographs = Photographs(options.dataset, options.input_size * max(model.scales))
    accelerator.print(f"{len(photographs)} photographs, {photographs.skipped} skipped", flush=True)

    def loss_of(model: torch.nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        lq, hq, denoise = batch
        wanted = {"denoise": denoise} if denoising else {}
        return -psnr_of(model(lq, return_dict=False, scale=hq.shape[-1] // lq.shape[-1], **wanted)[0], hq)

    denoising = model.config.denoising
    length = options.steps * options.batch_size * accelerator.num_processes
    crops = Crops(
        photographs, length, options.input_size, model.scales, options.batch_size, denoising, seed=options.seed
    )
    seconds, start = 60 * (options.minutes or math.inf), time.time()

    def rate_at(step: int) -> float:
        return warm_up(step, WARM_UP) * cosine(min(1, max(step / options.steps, (time.time() - start) / seconds)))

    loop.train(
        accelerator,
        model,
        torch.optim.Adam(model.parameters(), lr=options.learning_rate, betas=(0.9, 0.99)),
        DataLoader(crops, options.batch_size, num_workers=options.num_workers),
        loss_of,
        rate_at,
        loop.LoopSettings(
            options.steps,
            options.log_every,
            options.save_every,
            LONGEST_GRADIENT,
            options.output_dir / "super_resolver",
            seconds,
        ),
        shown=lambda loss: f"PSNR {-loss:.3f} dB",
    )


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(
        Options,
        __doc__.splitlines()[0],
        arguments,
        several=("dataset", "scales"),
        switches=("anti_ringing", "denoising"),
    )
    if options.evaluate:
        model = load_super_resolver(options.evaluate).eval()
        print(table(evaluate(model, Photographs(options.dataset, 4 * FLAT), options.seed)))
    else:
        train(options)


if __name__ == "__main__":
    run_script(main)
