"""Trains a small SegFormer to parse aligned faces into background, skin, nose, eyes, brows, mouth and lips.

    accelerate launch training/train_parser.py --dataset FACES --labels LABEL_MAPS --output_dir OUT
    python training/train_parser.py --dataset FACES --labels LABEL_MAPS --evaluate OUT/parser

FACES is a folder of aligned, square face crops; LABEL_MAPS a folder of 8-bit PNGs of the same names, whose pixels are
ids of CelebAMask-HQ. Or `--dataset` alone, a `datasets` name with the image columns `image` and `label`. Ten of that
set's nineteen regions are kept; glasses count as skin, the others as background.

In the pipeline a parser sees what an enhancer makes of degraded faces. With `--enhancer` the degraded half of the
training faces goes through it, and so do the faces of `--evaluate`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from hf_faceenh.errors import explained
from hf_faceenh.learning import loop
from hf_faceenh.learning.allocator import keep_freed_memory
from hf_faceenh.learning.parsing import (
    LABELS,
    STRIDE,
    LabelledFaces,
    Samples,
    class_weights,
    evaluate,
    load_parser,
    make_model,
    parser_inputs,
    parsing_loss,
)
from hf_faceenh.learning.rates import warm_up_then_cosine
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.tables import markdown_table
from hf_faceenh.models import load_enhancer

LONGEST_GRADIENT = 1.0


@dataclass
class Options:
    """Settings of `training/train_parser.py`.

    Args:
        dataset: folder of aligned faces, or a `datasets` name.
        labels: folder of their label maps; not for a `datasets` name.
        validation: as dataset: faces whose mean IoU is logged.
        validation_labels: as labels.
        output_dir: gets parser/.
        init: SegFormer (folder or Hub name) to go on from, instead of random weights.
        evaluate: train nothing; print the IoU of this model on the dataset.
        enhancer: face enhancer (folder or Hub name) whose faces are to be parsed.
        class_weights: of the cross-entropy: one over the root of a class's share, or none, for a last stage; weighted
            classes are found sooner, but drawn too large.
        steps: of training.
        batch_size: faces per process and step.
        learning_rate: of AdamW; warm-up, then a cosine to 0.
        seed: of everything random.
        num_workers: processes per process that make the samples.
        sample_size: side of the network's input in px.
        log_every: steps from one printed line to the next.
        save_every: steps from one saved parser to the next.
    """

    dataset: str
    labels: str | None = None
    validation: str | None = None
    validation_labels: str | None = None
    output_dir: Path = Path("output")
    init: str | None = None
    evaluate: str | None = None
    enhancer: str | None = None
    class_weights: Literal["root", "none"] = "root"
    steps: int = 3000
    batch_size: int = 8
    learning_rate: float = 3e-3
    seed: int = 0
    num_workers: int = 2
    sample_size: int = 256
    log_every: int = 100
    save_every: int = 200

    def __post_init__(self):
        if self.sample_size % STRIDE:
            raise ValueError(f"--sample_size is a multiple of {STRIDE}; got {self.sample_size}.")


def train(options: Options, enhancer: torch.nn.Module | None) -> None:
    keep_freed_memory()
    accelerator = Accelerator()
    set_seed(options.seed)
    model = load_parser(options.init) if options.init else make_model(options.sample_size)
    options.sample_size = model.config.sample_size
    accelerator.print(json.dumps(vars(options), default=str), flush=True)
    faces = LabelledFaces(options.dataset, options.labels, "train", 2 * options.sample_size)
    accelerator.print(f"{len(faces)} faces, {faces.skipped} skipped", flush=True)
    validation = None
    if options.validation:
        validation = LabelledFaces(
            options.validation, options.validation_labels, "validation", 2 * options.sample_size
        )

    length = options.steps * options.batch_size * accelerator.num_processes
    samples = Samples(faces, length, options.sample_size, options.seed)
    enhancer = enhancer and enhancer.to(accelerator.device)
    weights = class_weights(faces.pixels) if options.class_weights == "root" else torch.ones(len(LABELS))
    weights = weights.to(accelerator.device)

    def loss_of(model: torch.nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        pictures, degraded, ids = batch
        with accelerator.autocast():
            pixel_values = parser_inputs(pictures.cpu().numpy(), degraded.tolist(), options.sample_size, enhancer)
        pixel_values = pixel_values.to(accelerator.device, memory_format=torch.channels_last)
        return parsing_loss(model(pixel_values).logits.float(), ids, weights)

    loop.train(
        accelerator,
        model,
        torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.01),
        DataLoader(samples, options.batch_size, num_workers=options.num_workers),
        loss_of,
        lambda step: warm_up_then_cosine(step, options.steps),
        loop.LoopSettings(
            options.steps, options.log_every, options.save_every, LONGEST_GRADIENT, options.output_dir / "parser"
        ),
        shown=lambda loss: f"loss {loss:.4f}",
        measured=validation and (lambda model: f"mean_iou {evaluate(model, validation, enhancer)[1]:.4f}"),
    )


def print_iou(options: Options, enhancer: torch.nn.Module | None) -> None:
    model = load_parser(options.evaluate)
    faces = LabelledFaces(options.dataset, options.labels, "validation", 2 * model.config.sample_size)
    per_class, mean = evaluate(model, faces, enhancer)
    print(markdown_table(["mean IoU", *LABELS], [[f"{value:.3f}" for value in (mean, *per_class.tolist())]]))


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__.splitlines()[0], arguments)
    with explained("--enhancer", of=(OSError, ValueError)):
        enhancer = load_enhancer(options.enhancer, torch_dtype=torch.float32).eval() if options.enhancer else None
    if options.evaluate:
        print_iou(options, enhancer)
    else:
        train(options, enhancer)


if __name__ == "__main__":
    run_script(main)
