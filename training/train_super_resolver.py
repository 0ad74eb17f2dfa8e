"""Trains a SuperResolver on photographs: any folder of them, or a `datasets` name.

    accelerate launch training/train_super_resolver.py --dataset PHOTOGRAPHS --output_dir OUT
    python training/train_super_resolver.py --dataset PHOTOGRAPHS --evaluate OUT/super_resolver

The target is always sharp: a crop of a photograph, now and then a drawing of flat shapes. Some inputs are merely
reduced, the rest are also blurred, noisy and JPEG-compressed, as pictures that people have: so the network learns to
sharpen what is there, never to enlarge noise or block edges, and not to ring at hard edges.
"""

import argparse
import io
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import Image as ImageFeature
from datasets import load_dataset
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from hf_faceenh.learning.allocator import keep_freed_memory
from hf_faceenh.learning.degradation import WORST_BLUR, WORST_NOISE, blur, jpeg, noise
from hf_faceenh.learning.metrics import FLAT, flat_noise, markdown_table, psnr
from hf_faceenh.models.super_resolver import ResidualBlock, SuperResolver

CACHE_BYTES = 4 << 30  # decoded pictures kept in memory; the rest is decoded again for every crop
REDUCTION = (0.5, 1.0)  # a photograph is first reduced by a factor from here: what it holds of noise goes
FILTERS = (Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
DRAWINGS = 0.05  # share of the targets that are drawings
CLEAN = 0.2  # share of the inputs that are only reduced
COMPRESSED = 0.7  # share of the other inputs that went through JPEG
# Their worst: blur in px of the sharp crop, noise as a share of white, and the strength of `jpeg`.
BLUR, NOISE, JPEG = 1.0, 0.05, 0.4
CLIP = 20.0  # largest norm of the gradient of the loss in dB
FLOOR = 1e-5  # of a crop's squared error in the loss: flat crops, at 50 dB and above, matter no more


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--dataset", required=True, help="folder of photographs, or a `datasets` name with an image")
    parser.add_argument("--output_dir", type=Path, default=Path("output"), help="gets super_resolver/")
    parser.add_argument("--init", help="SuperResolver (folder or Hub id) to go on from, instead of random weights")
    parser.add_argument(
        "--evaluate", metavar="MODEL", help="train nothing: print this SuperResolver's PSNR on --dataset"
    )
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch_size", type=int, default=8, help="crops per process and step")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="of Adam; falls to 0 as a cosine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--scale", type=int, default=2, choices=(1, 2, 4))
    parser.add_argument("--architecture", choices=("compact", "residual"), default="residual")
    parser.add_argument("--num_feat", type=int, default=48)
    parser.add_argument("--num_block", type=int, default=5, help="of the residual architecture")
    parser.add_argument("--num_conv", type=int, default=10, help="of the compact architecture")
    parser.add_argument(
        "--anti_ringing", action=argparse.BooleanOptionalAction, default=True, help="of new weights: see SuperResolver"
    )
    parser.add_argument("--crop_size", type=int, default=128, help="side of the sharp crops in px")
    parser.add_argument("--log_every", type=int, default=50, help="steps")
    parser.add_argument("--save_every", type=int, default=500, help="steps")
    return parser.parse_args(arguments)


# Data


class Photographs(Dataset):
    """The pictures of a folder or of a `datasets` name (its train split): RGB uint8 arrays `[H, W, 3]`.

    Pictures that cannot be read, or are smaller than `least` px, are left out; `skipped` counts them.

    Raises:
        SystemExit: with one line, where nothing usable is found.
    """

    def __init__(self, dataset: str, least: int):
        if Path(dataset).is_dir():
            kind, options = "imagefolder", {"data_dir": dataset, "drop_labels": True}
        elif dataset.count("/") <= 1 and not dataset.startswith((".", "/", "~")):
            kind, options = dataset, {}
        else:
            raise SystemExit(f"--dataset {dataset}: no such folder.")
        try:
            table = load_dataset(kind, split="train", **options)
        except Exception as error:  # whatever a builder raises for an empty folder, an unknown name, no connection
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SystemExit(
                f"--dataset {dataset}: no folder of photographs and no dataset to be had: {reason}"
            ) from None
        columns = [name for name, feature in table.features.items() if isinstance(feature, ImageFeature)]
        if not columns:
            raise SystemExit(f"--dataset {dataset}: expected a column of images; got {list(table.features)}.")
        self.column = table.select_columns(columns[:1]).cast_column(columns[0], ImageFeature(decode=False))
        self.name = columns[0]
        self.kept: dict[int, np.ndarray] = {}
        self.usable: list[int] = []
        room = CACHE_BYTES
        for i in range(len(self.column)):
            try:
                picture = self._decode(i)
            except OSError:
                continue
            if min(picture.shape[:2]) < least:
                continue
            self.usable.append(i)
            if room > picture.nbytes:
                self.kept[i] = picture
                room -= picture.nbytes
        self.skipped = len(self.column) - len(self.usable)
        if not self.usable:
            raise SystemExit(
                f"--dataset {dataset}: none of its {self.skipped} pictures can be read and has {least} px."
            )

    def _decode(self, i: int) -> np.ndarray:
        file = self.column[i][self.name]
        with Image.open(io.BytesIO(file["bytes"]) if file["bytes"] else file["path"]) as image:
            return np.asarray(image.convert("RGB"))

    def __len__(self) -> int:
        return len(self.usable)

    def __getitem__(self, index: int) -> np.ndarray:
        i = self.usable[index]
        return self.kept[i] if i in self.kept else self._decode(i)


def reduce(image: np.ndarray, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    """uint8 `[H, W, 3]` → the same at `size` (width, height); the filter spans all pixels that it should."""
    return np.asarray(Image.fromarray(image).resize(size, resampling))


def from_float(image: np.ndarray) -> np.ndarray:
    return (image * 255).round().clip(0, 255).astype(np.uint8)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 `[H, W, 3]` → float32 `[3, H, W]` in [0, 1]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


def to_input(sharp: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """A sharp uint8 crop → the picture that somebody has of it, smaller by `scale`."""
    size = (sharp.shape[1] // scale, sharp.shape[0] // scale)
    resampling = FILTERS[rng.integers(len(FILTERS))]
    if rng.random() < CLEAN:
        return reduce(sharp, size, resampling)
    image = blur(sharp.astype(np.float32) / 255, rng.uniform(0, BLUR / (WORST_BLUR * max(sharp.shape))), rng)
    image = reduce(from_float(image), size, resampling).astype(np.float32) / 255
    image = noise(image, rng.uniform() ** 2 * NOISE / WORST_NOISE, rng)  # mostly light
    return from_float(jpeg(image, rng.uniform(0, JPEG), rng) if rng.random() < COMPRESSED else image)


def drawing(side: int, rng: np.random.Generator) -> np.ndarray:
    """Flat polygons and upright rectangles, uint8 `[side, side, 3]`: faces and suits have no such edges, but borders
    and letters do, and a network that never saw one rings beside them."""
    image = np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(rng.integers(2, 8)):
        colour = rng.integers(0, 256, 3).tolist()
        corners = rng.integers(-side // 4, side + side // 4, (rng.integers(3, 6), 2), dtype=np.int32)
        if rng.random() < 0.5:
            cv2.rectangle(image, corners[0].tolist(), corners[1].tolist(), colour, cv2.FILLED)
        else:
            cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)
    return image


class Crops(Dataset):
    """Pairs (input `[3, c/s, c/s]`, target `[3, c, c]`) in [0, 1]; item i is the same for every number of workers."""

    def __init__(self, photographs: Photographs, length: int, crop_size: int, scale: int, seed: int):
        self.photographs, self.length, self.crop_size = photographs, length, crop_size
        self.scale, self.seed = scale, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.seed, index))
        photograph = self.photographs[rng.integers(len(self.photographs))]
        side = min(round(self.crop_size / rng.uniform(*REDUCTION)), *photograph.shape[:2])
        corners = rng.integers(0, np.subtract(photograph.shape[:2], side) + 1, size=(2, 2))
        places = [photograph[y : y + side, x : x + side] for y, x in corners]
        place = max(places, key=lambda pixels: pixels[::4, ::4].std())  # blurred backgrounds teach little
        # A filter without negative weights: what overshoots in the target is learnt as ringing.
        sharp = reduce(place, (self.crop_size,) * 2, Image.Resampling.HAMMING)
        if rng.random() < DRAWINGS:
            sharp = drawing(self.crop_size, rng)
        sharp = sharp[:, :: rng.choice((1, -1))]
        sharp = np.ascontiguousarray(sharp.swapaxes(0, 1) if rng.random() < 0.5 else sharp)
        return to_tensor(to_input(sharp, self.scale, rng)), to_tensor(sharp)


# Evaluation


def slightly_poor(sharp: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """The fixed poor input of the evaluation: blur of 0.8 px, reduced, noise of 4/255, JPEG quality 80."""
    image = cv2.GaussianBlur(sharp, (0, 0), 0.8)
    image = reduce(image, (sharp.shape[1] // scale, sharp.shape[0] // scale), Image.Resampling.BICUBIC)
    image = (image + rng.normal(0, 4, image.shape)).round().clip(0, 255).astype(np.uint8)
    _, file = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1]


@torch.no_grad()
def evaluate(model: SuperResolver, pictures, seed: int = 0) -> dict[str, dict[str, float]]:
    """PSNR in dB and noise in flat places of 255, of `model` and of bicubic enlargement, for clean and poor inputs."""
    scale = model.config.scale
    device = next(model.parameters()).device
    kinds = {
        "clean": lambda sharp, rng: reduce(
            sharp, (sharp.shape[1] // scale, sharp.shape[0] // scale), Image.Resampling.BICUBIC
        ),
        "poor": lambda sharp, rng: slightly_poor(sharp, scale, rng),
    }
    figures = {}
    for kind, make in kinds.items():
        rows = []
        for i in range(len(pictures)):
            sharp = pictures[i]
            sharp = sharp[: sharp.shape[0] // scale * scale, : sharp.shape[1] // scale * scale]
            small = make(sharp, np.random.default_rng((seed, i)))
            bicubic = reduce(small, sharp.shape[1::-1], Image.Resampling.BICUBIC)
            ours = model(to_tensor(small)[None].to(device)).sample[0].permute(1, 2, 0).float().cpu().numpy()
            ours = from_float(ours)
            rows.append((psnr(bicubic, sharp), psnr(ours, sharp), flat_noise(bicubic, sharp), flat_noise(ours, sharp)))
        names = ("psnr_bicubic", "psnr_ours", "flat_noise_bicubic", "flat_noise_ours")
        figures[kind] = dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))
    return figures


def table(figures: dict[str, dict[str, float]]) -> str:
    """`evaluate`'s figures as a Markdown table."""
    names = list(next(iter(figures.values())))
    return markdown_table(
        ["input", *names], [[kind, *(f"{row[name]:.2f}" for name in names)] for kind, row in figures.items()]
    )


# Training


def load(name: str) -> SuperResolver:
    try:
        return SuperResolver.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{name}: not a SuperResolver: {str(error).splitlines()[0]}") from None


def new_model(options: argparse.Namespace) -> SuperResolver:
    """Starts near plain enlargement, with signals that keep their size (He et al. 2015): PyTorch's default lets them
    fade, and the first thousands of steps go by."""
    model = SuperResolver(
        options.architecture,
        options.scale,
        options.num_feat,
        options.num_conv,
        num_block=options.num_block,
        anti_ringing=options.anti_ringing,
    )
    convolutions = [layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer in convolutions:
        torch.nn.init.kaiming_normal_(layer.weight, a=0.25)  # the slope that PReLU starts with
        torch.nn.init.zeros_(layer.bias)
    ends = [layer.conv2 for layer in model.modules() if isinstance(layer, ResidualBlock)]
    with torch.no_grad():
        for layer in (*ends, convolutions[-1]):  # what is added to something begins small
            layer.weight.mul_(0.1)
    return model


def psnr_of(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """In dB, the mean over a batch of crops. As a loss (NAFNet, Chen et al. 2022) it weighs soft crops, whose errors
    are small, like busy ones; an L1 loss leaves clean pictures almost as bicubic enlargement does."""
    errors = (images - targets).square().mean(dim=(1, 2, 3))
    return -10 * (errors + FLOOR).log10().mean()


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    if options.evaluate:
        model = load(options.evaluate).eval()
        print(table(evaluate(model, Photographs(options.dataset, 4 * FLAT), options.seed)))
        return

    keep_freed_memory()
    accelerator = Accelerator()
    set_seed(options.seed)
    model = load(options.init) if options.init else new_model(options)
    options.scale = model.config.scale
    accelerator.print(json.dumps(vars(options), default=str), flush=True)
    photographs = Photographs(options.dataset, options.crop_size)
    accelerator.print(f"{len(photographs)} photographs, {photographs.skipped} skipped", flush=True)

    length = options.steps * options.batch_size * accelerator.num_processes
    crops = Crops(photographs, length, options.crop_size, options.scale, options.seed)
    loader = DataLoader(crops, options.batch_size, num_workers=options.num_workers)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate, betas=(0.9, 0.99))
    # One scheduler step per optimiser step on every process: so it is not given to `prepare`, which would take more.
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    model = model.train().to(memory_format=torch.channels_last)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    def save():
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            accelerator.unwrap_model(model).save_pretrained(options.output_dir / "super_resolver")

    start, total = time.time(), 0.0
    for step, (poor, sharp) in enumerate(loader, 1):
        loss = -psnr_of(model(poor.contiguous(memory_format=torch.channels_last), return_dict=False)[0], sharp)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total -= loss.item()
        if step % options.log_every == 0 or step == options.steps:
            count = (step - 1) % options.log_every + 1
            rate = schedule.get_last_lr()[0]
            seconds = time.time() - start
            accelerator.print(f"step {step} PSNR {total / count:.3f} dB rate {rate:.2e} {seconds:.0f} s", flush=True)
            total = 0.0
        if step % options.save_every == 0 or step == options.steps:
            save()


if __name__ == "__main__":
    main()
