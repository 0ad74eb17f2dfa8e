"""Trains a SuperResolver on photographs: any folder of them, or a `datasets` name.

    accelerate launch training/train_super_resolver.py --dataset PHOTOGRAPHS --output_dir OUT
    python training/train_super_resolver.py --dataset PHOTOGRAPHS --evaluate OUT/super_resolver

hf_faceenh/learning/super_resolution/samples.py says what it learns from.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from hf_faceenh.learning import loop
from hf_faceenh.learning.allocator import keep_freed_memory
from hf_faceenh.learning.metrics import FLAT
from hf_faceenh.learning.rates import cosine
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.super_resolution import (
    Crops,
    Photographs,
    evaluate,
    load_super_resolver,
    make_super_resolver,
    psnr_of,
    table,
)
from hf_faceenh.models.super_resolver import SuperResolver

LONGEST_GRADIENT = 20.0  # of the loss in dB


@dataclass
class Options:
    """Settings of `training/train_super_resolver.py`.

    Args:
        dataset: folder of photographs, or a `datasets` name with an image.
        output_dir: gets super_resolver/.
        init: SuperResolver (folder or Hub name) to go on from, instead of random weights.
        evaluate: train nothing; print the PSNR of this SuperResolver on the dataset.
        steps: of training.
        batch_size: crops per process and step.
        learning_rate: of Adam; falls to 0 as a cosine.
        seed: of everything random.
        num_workers: processes per process that make the crops.
        scale: factor of new weights.
        architecture: of new weights.
        num_feat: channels of new weights.
        num_block: of the residual architecture.
        num_conv: of the compact architecture.
        anti_ringing: of new weights; see SuperResolver.
        crop_size: side of the sharp crops in px.
        log_every: steps from one printed line to the next.
        save_every: steps from one saved network to the next.
    """

    dataset: str
    output_dir: Path = Path("output")
    init: str | None = None
    evaluate: str | None = None
    steps: int = 5000
    batch_size: int = 8
    learning_rate: float = 1e-3
    seed: int = 0
    num_workers: int = 2
    scale: Literal[1, 2, 4] = 2
    architecture: Literal["compact", "residual"] = "residual"
    num_feat: int = 48
    num_block: int = 5
    num_conv: int = 10
    anti_ringing: bool = True
    crop_size: int = 128
    log_every: int = 50
    save_every: int = 500


def new_model(options: Options) -> SuperResolver:
    names = ("architecture", "scale", "num_feat", "num_conv", "num_block", "anti_ringing")
    return make_super_resolver(**{name: getattr(options, name) for name in names})


def train(options: Options) -> None:
    keep_freed_memory()
    accelerator = Accelerator()
    set_seed(options.seed)
    model = load_super_resolver(options.init) if options.init else new_model(options)
    options.scale = model.config.scale
    accelerator.print(json.dumps(vars(options), default=str), flush=True)
    photographs = Photographs(options.dataset, options.crop_size)
    accelerator.print(f"{len(photographs)} photographs, {photographs.skipped} skipped", flush=True)

    def loss_of(model: torch.nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        lq, hq = batch
        return -psnr_of(model(lq.contiguous(memory_format=torch.channels_last), return_dict=False)[0], hq)

    length = options.steps * options.batch_size * accelerator.num_processes
    crops = Crops(photographs, length, options.crop_size, options.scale, options.seed)
    loop.train(
        accelerator,
        model,
        torch.optim.Adam(model.parameters(), lr=options.learning_rate, betas=(0.9, 0.99)),
        DataLoader(crops, options.batch_size, num_workers=options.num_workers),
        loss_of,
        lambda step: cosine(step / options.steps),
        loop.LoopSettings(
            options.steps,
            options.log_every,
            options.save_every,
            LONGEST_GRADIENT,
            options.output_dir / "super_resolver",
        ),
        shown=lambda loss: f"PSNR {-loss:.3f} dB",
    )


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__.splitlines()[0], arguments, switches=("anti_ringing",))
    if options.evaluate:
        model = load_super_resolver(options.evaluate).eval()
        print(table(evaluate(model, Photographs(options.dataset, 4 * FLAT), options.seed)))
    else:
        train(options)


if __name__ == "__main__":
    run_script(main)
