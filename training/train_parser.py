"""Trains a small SegFormer to parse aligned faces into background, skin, nose, eyes, brows, mouth, lips and hair.

    accelerate launch training/train_parser.py --dataset FACES --labels LABEL_MAPS --output_dir OUT
    python training/train_parser.py --dataset FACES --labels LABEL_MAPS --evaluate OUT/parser

FACES is a folder of aligned, square face crops; LABEL_MAPS a folder of 8-bit PNGs of the same names, whose pixels are
ids of CelebAMask-HQ. Or `--dataset` alone, a `datasets` name with the image columns `image` and `label`. Several of
them are trained on together: `--dataset FACES OTHERS --labels MAPS MAPS_OF_OTHERS`.

Of that set's nineteen regions eleven are made: "hair" is all of the head that is not face, so hats, ears and earrings
count as it; glasses count as skin, and neck and clothes as background.

In the pipeline a parser sees what an enhancer makes of degraded faces. With `--enhancer` the degraded half of the
training faces goes through it, and so do the faces of `--evaluate`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import ConcatDataset, DataLoader

from hf_faceenh.allocator import keep_freed_memory
from hf_faceenh.errors import explained
from hf_faceenh.learning import loop
from hf_faceenh.learning.parsing import (
    CELEBAMASK_HQ,
    HEAD_ID,
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
SEVERAL = ("dataset", "labels", "validation", "validation_labels")


@dataclass
class Options:
    """Settings of `training/train_parser.py`.

    Args:
        dataset: folders of aligned faces, or `datasets` names.
        labels: folders of their label maps, in the same order; not for `datasets` names.
        head_id: what the label maps have for the rest of the head, where it is not CelebAMask-HQ's id of hair.
        validation: as dataset: faces whose mean IoU is logged.
        validation_labels: as labels.
        output_dir: gets parser/.
        init: SegFormer (folder or Hub name) to go on from, instead of random weights; regions that it lacks are added.
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

    dataset: list[str]
    labels: list[str] = field(default_factory=list)
    head_id: int = HEAD_ID
    validation: list[str] = field(default_factory=list)
    validation_labels: list[str] = field(default_factory=list)
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
        if not 0 <= self.head_id < len(CELEBAMASK_HQ):
            raise ValueError(f"--head_id is an id from 0 to {len(CELEBAMASK_HQ) - 1}; got {self.head_id}.")
        for names, maps in (("dataset", "labels"), ("validation", "validation_labels")):
            if getattr(self, maps) and len(getattr(self, maps)) != len(getattr(self, names)):
                raise ValueError(f"--{maps} must name one folder for each of --{names}, in the same order.")


def labelled(
    datasets: Sequence[str], labels: Sequence[str], split: str, parser_size: int, head_id: int
) -> list[LabelledFaces]:
    return [
        LabelledFaces(dataset, maps, split, 2 * parser_size, head_id)
        for dataset, maps in zip(datasets, labels or [None] * len(datasets), strict=True)
    ]


def train(options: Options, enhancer: torch.nn.Module | None) -> None:
    keep_freed_memory()
    accelerator = Accelerator()
    set_seed(options.seed)
    model = load_parser(options.init) if options.init else make_model(options.sample_size)
    options.sample_size = model.config.sample_size
    accelerator.print(json.dumps(vars(options), default=str), flush=True)
    sets = labelled(options.dataset, options.labels, "train", options.sample_size, options.head_id)
    faces = ConcatDataset(sets)
    accelerator.print(f"{len(faces)} faces, {sum(one.skipped for one in sets)} skipped", flush=True)
    validation = None
    if options.validation:
        validation = ConcatDataset(
            labelled(options.validation, options.validation_labels, "validation", options.sample_size, options.head_id)
        )

    length = options.steps * options.batch_size * accelerator.num_processes
    samples = Samples(faces, length, options.sample_size, options.seed)
    enhancer = enhancer and enhancer.to(accelerator.device)
    rooted = options.class_weights == "root"
    weights = class_weights(sum(one.pixels for one in sets)) if rooted else torch.ones(len(LABELS))
    weights = weights.to(accelerator.device)

    def loss_of(model: torch.nn.Module, batch: list[torch.Tensor]) -> torch.Tensor:
        pictures, degraded, ids = batch
        with accelerator.autocast():
            pixel_values = parser_inputs(pictures, degraded, options.sample_size, enhancer)
        logits = model(pixel_values.contiguous(memory_format=torch.channels_last)).logits
        return parsing_loss(logits.float(), ids, weights)

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
    size = model.config.sample_size
    faces = ConcatDataset(labelled(options.dataset, options.labels, "validation", size, options.head_id))
    per_class, mean = evaluate(model, faces, enhancer)
    print(markdown_table(["mean IoU", *LABELS], [[f"{value:.3f}" for value in (mean, *per_class.tolist())]]))


def main(arguments: list[str] | None = None) -> None:
    options, _ = parse_options(Options, __doc__.splitlines()[0], arguments, several=SEVERAL)
    with explained("--enhancer", of=(OSError, ValueError)):
        enhancer = load_enhancer(options.enhancer, torch_dtype=torch.float32).eval() if options.enhancer else None
    if options.evaluate:
        print_iou(options, enhancer)
    else:
        train(options, enhancer)


if __name__ == "__main__":
    run_script(main)
