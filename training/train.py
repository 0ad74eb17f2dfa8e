"""Trains a FaceEnhancer on sharp faces that are degraded on the fly.

    accelerate launch training/train.py --config training/configs/first.yaml --dataset FOLDER --output_dir OUT

`FOLDER` holds aligned faces (see prepare_faces.py), or is the name of a `datasets` dataset with an `image` column. At
the end, and every `save_every` steps, `OUT/enhancer` is a `from_pretrained` folder of the averaged (EMA) weights, and
`OUT/state` everything that `--resume` needs.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import Image, load_dataset
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from hf_faceenh.learning.degradation import Degradation, FacePairs
from hf_faceenh.learning.losses import PerceptualLoss, relative_l1
from hf_faceenh.models.enhancer import FaceEnhancer


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="YAML file with values for any of these options")
    parser.add_argument("--dataset", help="folder of aligned faces, or name of a dataset with an image column")
    parser.add_argument("--output_dir", type=Path)
    parser.add_argument("--init", help="folder or Hub name of a FaceEnhancer to start from")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state")
    parser.add_argument("--enhancer", type=json.loads, default={}, help="FaceEnhancer's arguments as JSON")
    parser.add_argument("--coefficients", type=json.loads, default={}, help="degradation coefficients as JSON")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch_size", type=int, default=8, help="per process")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--schedule", default="cosine", help="cosine, linear, constant_with_warmup, …")
    parser.add_argument("--warmup_steps", type=int, default=100)
    parser.add_argument("--ema_decay", type=float, default=0.999)
    parser.add_argument("--perceptual_weight", type=float, default=0.0)
    parser.add_argument("--perceptual_backbone", help="name or folder of a transformers vision model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num_workers", type=int, default=1)
    parser.add_argument("--log_every", type=int, default=50)
    parser.add_argument("--save_every", type=int, default=500)
    known, _ = parser.parse_known_args(arguments)
    if known.config:
        parser.set_defaults(**read_config(parser, known.config))
    args = parser.parse_args(arguments)
    for name in ("dataset", "output_dir"):
        if getattr(args, name) is None:
            parser.error(f"--{name} is needed")
    for name in ("steps", "batch_size", "log_every", "save_every"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if args.perceptual_weight and not args.perceptual_backbone:
        parser.error("--perceptual_weight needs a --perceptual_backbone, a transformers vision model")
    return args


def read_config(parser: argparse.ArgumentParser, path: Path) -> dict:
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        parser.error(f"--config {path} cannot be read: {' '.join(str(error).split())}")
    if not isinstance(values, dict):
        parser.error(f"--config {path} must map options to values")
    unknown = set(values) - {action.dest for action in parser._actions}
    if unknown:
        parser.error(f"--config {path} sets {', '.join(sorted(unknown))}, which are not options of train.py")
    return values


def load_faces(name: str):
    """The `image` column of a folder (or single archive) of pictures or of a named dataset."""
    if Path(name).is_dir():
        return load_dataset("imagefolder", data_dir=name, split="train", drop_labels=True)
    if Path(name).exists():
        raise ValueError(f"--dataset {name} is a file; give the folder that holds the faces.")
    return load_dataset(name, split="train")


class Draws(Dataset):
    """The endless stream of training pairs, by number: draw k is the same pair whatever the number of workers."""

    def __init__(self, faces, pairs: FacePairs, length: int, seed: int):
        self.faces = faces.select_columns("image").cast_column("image", Image(mode="RGB"))
        self.pairs, self.length, self.seed = pairs, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, draw: int) -> dict[str, np.ndarray]:
        epoch, position = divmod(draw, len(self.faces))
        index = np.random.default_rng((self.seed, epoch)).permutation(len(self.faces))[position]
        return self.pairs(np.asarray(self.faces[int(index)]["image"]), seed=(self.seed, draw))


def main(arguments: list[str] | None = None) -> None:
    args = parse_args(arguments)
    accelerator = Accelerator()
    set_seed(args.seed)
    accelerator.print(json.dumps(vars(args), default=str))

    model = FaceEnhancer.from_pretrained(args.init) if args.init else FaceEnhancer(**args.enhancer)
    model = model.to(memory_format=torch.channels_last)
    pairs = FacePairs(Degradation(args.coefficients), model.config.sample_size)
    draws = Draws(load_faces(args.dataset), pairs, args.steps * args.batch_size * accelerator.num_processes, args.seed)
    loader = DataLoader(draws, args.batch_size, num_workers=args.num_workers, drop_last=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate, betas=(0.9, 0.99))
    # accelerate steps the schedule once per process at every step
    schedule = get_scheduler(
        args.schedule,
        optimizer,
        num_warmup_steps=args.warmup_steps * accelerator.num_processes,
        num_training_steps=args.steps * accelerator.num_processes,
    )
    ema = EMAModel(model.parameters(), decay=args.ema_decay, model_cls=FaceEnhancer, model_config=model.config)
    perceptual = PerceptualLoss(args.perceptual_backbone).to(accelerator.device) if args.perceptual_weight else None
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    ema.to(accelerator.device)
    progress = Progress()
    accelerator.register_for_checkpointing(ema, progress)
    if args.resume:
        accelerator.load_state(args.output_dir / "state")
    stream = accelerator.skip_first_batches(loader, progress.step)

    bar = tqdm(total=args.steps, initial=progress.step, disable=not accelerator.is_main_process)
    sums, summed, started = {}, 0, time.monotonic()
    for batch in stream:
        lq, hq = batch["lq"], batch["hq"]
        enhanced = model(lq.contiguous(memory_format=torch.channels_last), return_dict=False)[0]
        terms = {"pixel": relative_l1(enhanced, hq, lq)}
        loss = terms["pixel"]
        if perceptual:
            terms["perceptual"] = perceptual(enhanced, hq)
            loss = loss + args.perceptual_weight * terms["perceptual"]
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        ema.step(accelerator.unwrap_model(model).parameters())
        progress.step += 1
        bar.update()
        summed += 1
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if progress.step % args.log_every == 0:
            seconds, started = time.monotonic() - started, time.monotonic()
            means = {name: round(value / summed, 5) for name, value in sums.items()}
            rate = round(summed * args.batch_size * accelerator.num_processes / seconds, 2)
            accelerator.print(json.dumps({"step": progress.step, **means, "images_per_second": rate}), flush=True)
            sums, summed = {}, 0
        if progress.step % args.save_every == 0 or progress.step == args.steps:
            save(accelerator, model, ema, args.output_dir)


class Progress:
    """How many steps are done; kept in checkpoints."""

    def __init__(self):
        self.step = 0

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]


def save(accelerator: Accelerator, model: torch.nn.Module, ema: EMAModel, output_dir: Path) -> None:
    """`OUT/state` to go on from, `OUT/enhancer` (averaged weights) to use."""
    accelerator.wait_for_everyone()
    accelerator.save_state(output_dir / "state")
    if accelerator.is_main_process:
        plain = accelerator.unwrap_model(model)
        ema.store(plain.parameters())
        ema.copy_to(plain.parameters())
        plain.save_pretrained(output_dir / "enhancer")
        ema.restore(plain.parameters())


if __name__ == "__main__":
    try:
        main()
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"train.py: {' '.join(str(error).split())}")
