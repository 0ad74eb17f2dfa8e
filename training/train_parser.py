"""Trains a small SegFormer to parse aligned faces into background, skin, nose, eyes, brows, mouth and lips.

    accelerate launch training/train_parser.py --dataset FACES --labels LABEL_MAPS --output_dir OUT
    python training/train_parser.py --dataset FACES --labels LABEL_MAPS --evaluate OUT/parser

FACES is a folder of aligned, square face crops; LABEL_MAPS a folder of 8-bit PNGs of the same names, whose pixels are
ids of CelebAMask-HQ. Or `--dataset` alone, a `datasets` name with the image columns `image` and `label`. Of that
set's nineteen regions the ten of `LABELS` are kept; glasses count as skin, the others as background.

In the pipeline a parser sees what an enhancer makes of poor faces. With `--enhancer` the poor half of the training
faces goes through it, and so do the faces of `--evaluate`.
"""

import argparse
import io
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import datasets
import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from transformers import SegformerConfig, SegformerForSemanticSegmentation
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hf_faceenh.learning.allocator import keep_freed_memory
from hf_faceenh.learning.degradation import Degradation, resize
from hf_faceenh.learning.metrics import as_batch, as_pictures, confusion_matrix, mean_iou
from hf_faceenh.models import load_enhancer

LABELS = ("background", "skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "mouth", "u_lip", "l_lip")
CELEBAMASK_HQ = (
    *("background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear"),
    *("mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"),
)
COUNTED_AS = {"eye_g": "skin"}
MIRRORED = {"l_eye": "r_eye", "r_eye": "l_eye", "l_brow": "r_brow", "r_brow": "l_brow"}  # l_lip is the lower one

# The first stage works at half size, not SegFormer's quarter: a lip or a brow is two quarter-size cells high, and
# label maps reduced to those and enlarged again keep a mean IoU of 0.89 only, reduced to half size 0.96.
ARCHITECTURE = {
    "depths": [1, 1, 2, 2],
    "strides": [2, 2, 2, 2],
    "patch_sizes": [5, 3, 3, 3],
    "sr_ratios": [16, 8, 4, 2],
    "hidden_sizes": [16, 24, 48, 96],
    "mlp_ratios": [2, 4, 4, 4],
    "num_attention_heads": [1, 1, 2, 4],
    "decoder_hidden_size": 32,
    "drop_path_rate": 0.0,  # few steps, strong augmentation: regularisation only slows it
    "classifier_dropout_prob": 0.0,
}
STRIDE = 16  # of the last stage: sides are multiples of it
LOSS_REDUCTION = 2  # the loss is taken at this part of the input's size

SHIFT, SCALE, ROTATION = 0.02, 0.06, 7.0  # standard deviations: share of the side, logarithm, degrees
SQUEEZE = 0.75  # least width, of that of the face: what a head turned aside keeps
POOR_SHARE, GREY_SHARE, COVERED_SHARE, SQUEEZED_SHARE = 0.6, 0.1, 0.3, 0.3  # of the training faces
WARM_UP = 0.05  # share of the steps
CACHE_BYTES = 4 << 30  # decoded faces kept in memory; the rest is decoded again every time


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--dataset", required=True, help="folder of aligned faces, or a `datasets` name")
    parser.add_argument("--labels", help="folder of their label maps; not for a `datasets` name")
    parser.add_argument("--validation", help="as --dataset: faces whose mean IoU is logged (default: none)")
    parser.add_argument("--validation_labels", help="as --labels")
    parser.add_argument("--output_dir", type=Path, default=Path("output"), help="gets parser/")
    parser.add_argument("--init", help="SegFormer (folder or Hub id) to go on from, instead of random weights")
    parser.add_argument("--evaluate", metavar="MODEL", help="train nothing: print this model's IoU on --dataset")
    parser.add_argument("--enhancer", help="face enhancer (folder or Hub id) whose faces are to be parsed")
    parser.add_argument(
        "--class_weights",
        choices=("root", "none"),
        default="root",
        help="of the cross-entropy: one over the root of a class's share, or none, for a last stage: weighted classes "
        "are found sooner, but drawn too large",
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch_size", type=int, default=8, help="faces per process and step")
    parser.add_argument("--learning_rate", type=float, default=3e-3, help="of AdamW; warm-up, then a cosine to 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num_workers", type=int, default=2)
    parser.add_argument("--sample_size", type=int, default=256, help="side of the network's input in px")
    parser.add_argument("--log_every", type=int, default=100, help="steps")
    parser.add_argument("--save_every", type=int, default=200, help="steps")
    options = parser.parse_args(arguments)
    if options.sample_size % STRIDE:
        parser.error(f"--sample_size is a multiple of {STRIDE}; got {options.sample_size}.")
    return options


# Data


def to_label_ids() -> np.ndarray:
    """Id in CelebAMask-HQ → id in `LABELS`; 255 for ids that CelebAMask-HQ does not have."""
    table = np.full(256, 255, np.uint8)
    for i, name in enumerate(CELEBAMASK_HQ):
        name = COUNTED_AS.get(name, name)
        table[i] = LABELS.index(name) if name in LABELS else LABELS.index("background")
    return table


def named_pairs(dataset: str, split: str) -> datasets.Dataset:
    """The columns `image` and `label` of a `datasets` name, not decoded: `{"bytes", "path"}` each."""
    try:
        table = datasets.load_dataset(dataset, split=split)
    except Exception as error:  # whatever a builder raises for an unknown name, a missing split, no connection
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SystemExit(f"{dataset}: neither a folder of faces nor a dataset to be had: {reason}") from None
    for name in ("image", "label"):
        if not isinstance(table.features.get(name), datasets.Image):
            raise SystemExit(f"{dataset}: expected the image columns image and label; got {list(table.features)}.")
        table = table.cast_column(name, datasets.Image(decode=False))
    return table.select_columns(["image", "label"])


def folder_pairs(faces: str, labels: str | None) -> list[dict[str, dict]]:
    """The pictures of a folder with the label maps of the same names, in the shape of `named_pairs`."""
    if labels is None or not Path(labels).is_dir():
        raise SystemExit(f"{faces}: needs a folder of label maps beside it (--labels); got {labels}.")
    maps = {path.stem: str(path) for path in Path(labels).rglob("*.png")}
    pictures = (
        path for path in sorted(Path(faces).rglob("*")) if path.suffix.lower() in Image.registered_extensions()
    )
    return [{"image": {"path": str(path)}, "label": {"path": maps.get(path.stem)}} for path in pictures]


def decode(file: dict, label_map: bool = False) -> np.ndarray:
    """A square picture as uint8: `[H, H, 3]` RGB, or `[H, H]` ids of a label map. Raises `OSError` for any other."""
    if not file.get("bytes") and not file["path"]:
        raise OSError("no such picture")
    with Image.open(io.BytesIO(file["bytes"]) if file.get("bytes") else file["path"]) as image:
        if image.width != image.height:
            raise OSError(f"expected a square picture, got {image.width}×{image.height}")
        if label_map:
            return np.asarray(image if image.mode == "P" else image.convert("L"))
        return np.asarray(image.convert("RGB"))


class Faces(Dataset):
    """Aligned faces and their label maps: (picture `[H, H, 3]`, map `[h, h]` of ids in `LABELS`), uint8.

    Faces that cannot be read, are not square or have no label map are left out; `skipped` counts them. Pictures larger
    than `largest` px are reduced to it.

    Raises:
        SystemExit: with one line, where nothing usable is found, or a map has ids that CelebAMask-HQ does not have.
    """

    def __init__(self, dataset: str, labels: str | None, split: str, largest: int):
        self.largest, self.to_label_ids = largest, to_label_ids()
        self.pairs = folder_pairs(dataset, labels) if Path(dataset).is_dir() else named_pairs(dataset, split)
        self.pixels = np.zeros(len(LABELS), np.int64)  # of each class
        self.kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.usable: list[int] = []
        room = CACHE_BYTES
        for i in range(len(self.pairs)):
            try:
                picture, ids = self._decode(i)
            except OSError:
                continue
            if ids.max() >= len(LABELS):
                raise SystemExit(
                    f"{labels or dataset}: a label map has ids above {len(CELEBAMASK_HQ) - 1}: "
                    "they must be those of CelebAMask-HQ."
                )
            self.usable.append(i)
            self.pixels += np.bincount(ids.ravel(), minlength=len(LABELS))
            if room > picture.nbytes + ids.nbytes:
                self.kept[i] = picture, ids
                room -= picture.nbytes + ids.nbytes
        self.skipped = len(self.pairs) - len(self.usable)
        if not self.usable:
            raise SystemExit(f"{dataset}: none of its {self.skipped} pictures is readable, square and labelled.")

    def _decode(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        pair = self.pairs[i]
        picture, ids = decode(pair["image"]), decode(pair["label"], label_map=True)
        if len(picture) > self.largest:
            picture = cv2.resize(picture, (self.largest, self.largest), interpolation=cv2.INTER_AREA)
        return picture, self.to_label_ids[ids]

    def __len__(self) -> int:
        return len(self.usable)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        i = self.usable[index]
        return self.kept[i] if i in self.kept else self._decode(i)


def to_pixel_values(picture: np.ndarray) -> torch.Tensor:
    """uint8 `[S, S, 3]` → the network's input, float32 `[3, S, S]`."""
    normalised = (picture / np.float32(255) - np.float32(IMAGENET_DEFAULT_MEAN)) / np.float32(IMAGENET_DEFAULT_STD)
    return torch.from_numpy(normalised).permute(2, 0, 1).contiguous()


def jitter(rng: np.random.Generator) -> np.ndarray:
    """A random similarity transform `[3, 3]` about the centre, a mirroring half of the time, and now and then a face
    made narrower; in crop sides."""
    angle = math.radians(ROTATION) * rng.standard_normal()
    scale = math.exp(SCALE * rng.standard_normal())
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    shift = 0.5 + SHIFT * rng.standard_normal(2)
    to_centre = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    turn = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]], [0, 0, 1]])
    width = rng.uniform(SQUEEZE, 1) if rng.random() < SQUEEZED_SHARE else 1
    return turn @ np.diag([width * rng.choice([-1, 1]), 1, 1]) @ to_centre


def warp(image: np.ndarray, transform: np.ndarray, size: int, **how) -> np.ndarray:
    """A square image through a transform in crop sides, to `size` px."""
    source, target = np.diag([len(image), len(image), 1]), np.diag([size, size, 1])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from the centre of the first pixel
    matrix = np.linalg.inv(half) @ target @ transform @ np.linalg.inv(source) @ half
    return cv2.warpAffine(image, matrix[:2], (size, size), **how)


def relight(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random contrast, brightness and colour cast, now and then grey; uint8 in and out."""
    values = picture.astype(np.float32)
    if rng.random() < GREY_SHARE:
        values = np.repeat(values @ np.float32([[0.299], [0.587], [0.114]]), 3, axis=2)
    gain = rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    return ((values - 128) * gain + 128 + rng.uniform(-30, 30)).round().clip(0, 255).astype(np.uint8)


def cover(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strands, bars and patches of one colour over a face, uint8 in and out: like the hair and the glasses that the
    label maps do not know, they hide what is there without changing what it is."""
    covered, side = picture.copy(), len(picture)
    colour = rng.integers(0, 200, 3).tolist()
    for _ in range(rng.integers(1, 8)):
        (start, end), width = rng.integers(0, side, (2, 2)).tolist(), int(rng.integers(1, 4))
        kind = rng.choice(["strand", "rim", "patch"], p=[0.6, 0.25, 0.15])
        if kind == "strand":
            middle = (np.add(start, end) / 2 + rng.normal(0, side / 12, 2)).astype(int).tolist()
            cv2.polylines(covered, [np.int32([start, middle, end])], False, colour, width, cv2.LINE_AA)
        elif kind == "rim":
            axes = rng.integers(side // 20, side // 8, 2).tolist()
            cv2.ellipse(covered, start, axes, 0, 0, 360, colour, width, cv2.LINE_AA)
        else:
            axes = rng.integers(side // 40, side // 12, 2).tolist()
            cv2.ellipse(covered, start, axes, float(rng.uniform(0, 180)), 0, 360, colour, cv2.FILLED, cv2.LINE_AA)
    return covered


class Samples(Dataset):
    """Augmented faces: (picture `[S, S, 3]` uint8, whether it was degraded, label ids `[S / 2, S / 2]`); item i is the
    same for any number of workers.

    More than half of the faces are degraded, for a parser meets what an enhancer makes of poor ones.
    """

    def __init__(self, faces: Faces, length: int, sample_size: int, seed: int):
        self.faces, self.length, self.sample_size, self.seed = faces, length, sample_size, seed
        self.degradation = Degradation()
        self.mirrored = np.array([LABELS.index(MIRRORED.get(name, name)) for name in LABELS], np.uint8)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, bool, torch.Tensor]:
        rng = np.random.default_rng((self.seed, index))
        picture, ids = self.faces[rng.integers(len(self.faces))]
        transform = jitter(rng)
        picture = warp(picture, transform, self.sample_size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        ids = warp(ids, transform, self.sample_size // LOSS_REDUCTION, flags=cv2.INTER_NEAREST)
        if np.linalg.det(transform) < 0:
            ids = self.mirrored[ids]
        picture = relight(picture, rng)
        if rng.random() < COVERED_SHARE:
            picture = cover(picture, rng)
        poor = rng.random() < POOR_SHARE
        if poor:
            picture = self.degradation(picture, rng)
        return torch.from_numpy(picture), bool(poor), torch.from_numpy(ids.astype(np.int64))


@torch.no_grad()
def parser_inputs(
    pictures: Sequence[np.ndarray], poor: Sequence[bool], size: int, enhancer: torch.nn.Module | None = None
) -> torch.Tensor:
    """Pictures → the parser's `pixel_values`; the poor ones through the enhancer, where there is one.

    Args:
        pictures: `[H, H, 3]` uint8 each.
        poor: which of them are poor.
        size: S of the parser.
        enhancer: any face enhancer.

    Returns:
        `[B, 3, S, S]` float32.
    """
    pictures = list(pictures)
    chosen = [i for i, is_poor in enumerate(poor) if is_poor] if enhancer else []
    if chosen:
        side = enhancer.config.sample_size
        faces = as_batch([resize(pictures[i], (side, side)) for i in chosen], enhancer.device)
        for i, face in zip(chosen, as_pictures(enhancer(faces, return_dict=False)[0]), strict=True):
            pictures[i] = face
    return torch.stack([to_pixel_values(resize(picture, (size, size))) for picture in pictures])


# Evaluation


@torch.no_grad()
def evaluate(
    model: SegformerForSemanticSegmentation, faces: Faces, enhancer: torch.nn.Module | None = None
) -> tuple[torch.Tensor, float]:
    """IoU of every class and their mean, of all pixels of all faces, at the size of the label maps; of the faces as
    they are, or as an enhancer makes them."""
    training = model.training
    model.eval()
    confusion = torch.zeros(len(LABELS), len(LABELS), dtype=torch.int64)
    for i in range(len(faces)):
        picture, ids = faces[i]
        pixel_values = parser_inputs([picture], [True], model.config.sample_size, enhancer)
        logits = model(pixel_values.to(model.device)).logits
        prediction = F.interpolate(logits, size=ids.shape, mode="bilinear")[0].argmax(0)
        confusion += confusion_matrix(prediction.cpu(), torch.from_numpy(ids), len(LABELS))
    model.train(training)
    return mean_iou(confusion)


# Training


def make_model(sample_size: int) -> SegformerForSemanticSegmentation:
    names = dict(enumerate(LABELS))
    config = SegformerConfig(
        **ARCHITECTURE, id2label=names, label2id={name: i for i, name in names.items()}, sample_size=sample_size
    )
    model = SegformerForSemanticSegmentation(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.reset_parameters()  # transformers starts at N(0, 0.02): for fine-tuning, too slow here
    return model


def class_weights(pixels: np.ndarray) -> torch.Tensor:
    """1 / √share of each class: without it the small parts are not found for hundreds of steps."""
    return torch.from_numpy(pixels / pixels.sum()).float().clamp_min(1e-6).rsqrt()


def load(name: str) -> SegformerForSemanticSegmentation:
    try:
        model = SegformerForSemanticSegmentation.from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{name}: not a SegFormer: {str(error).splitlines()[0]}") from None
    if tuple(model.config.id2label.values()) != LABELS:
        raise SystemExit(f"{name}: expected a parser into {', '.join(LABELS)}; got {model.config.id2label}.")
    return model


def parsing_loss(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy plus the Dice loss (Milletari et al. 2016) averaged over classes.

    Args:
        logits: `[B, C, h, w]`, enlarged to the size of `ids`.
        ids: `[B, H, W]`.
        weights: of the classes in the cross-entropy, `[C]`.
    """
    logits = F.interpolate(logits, size=ids.shape[-2:], mode="bilinear")
    target = F.one_hot(ids, logits.shape[1]).permute(0, 3, 1, 2)
    probability = logits.softmax(1)
    overlap = (probability * target).sum((0, 2, 3))
    total = (probability + target).sum((0, 2, 3))
    dice = (2 * overlap + 1) / (total + 1)
    return F.cross_entropy(logits, ids, weights) + (1 - dice).mean()


def rate_at(step: int, steps: int) -> float:
    """Share of the learning rate: linear warm-up, then half a cosine down to 0."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))


def main(arguments: list[str] | None = None) -> None:
    options = parse_arguments(arguments)
    try:
        enhancer = load_enhancer(options.enhancer, torch_dtype=torch.float32).eval() if options.enhancer else None
    except (OSError, ValueError) as error:
        raise SystemExit(f"--enhancer: {' '.join(str(error).split())}") from None
    if options.evaluate:
        model = load(options.evaluate)
        faces = Faces(options.dataset, options.labels, "validation", 2 * model.config.sample_size)
        per_class, mean = evaluate(model, faces, enhancer)
        print("| " + " | ".join(("mean IoU", *LABELS)) + " |\n" + "| --- " * (len(LABELS) + 1) + "|")
        print("| " + " | ".join(f"{value:.3f}" for value in (mean, *per_class.tolist())) + " |")
        return

    keep_freed_memory()
    accelerator = Accelerator()
    set_seed(options.seed)
    model = load(options.init) if options.init else make_model(options.sample_size)
    options.sample_size = model.config.sample_size
    accelerator.print(json.dumps(vars(options), default=str), flush=True)
    faces = Faces(options.dataset, options.labels, "train", 2 * options.sample_size)
    accelerator.print(f"{len(faces)} faces, {faces.skipped} skipped", flush=True)
    validation = None
    if options.validation:
        validation = Faces(options.validation, options.validation_labels, "validation", 2 * options.sample_size)

    length = options.steps * options.batch_size * accelerator.num_processes
    samples = Samples(faces, length, options.sample_size, options.seed)
    loader = DataLoader(samples, options.batch_size, num_workers=options.num_workers)
    enhancer = enhancer and enhancer.to(accelerator.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.01)
    # One scheduler step per optimiser step on every process: so it is not given to `prepare`, which would take more.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, options.steps))
    model = model.train().to(memory_format=torch.channels_last)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    weights = class_weights(faces.pixels) if options.class_weights == "root" else torch.ones(len(LABELS))
    weights = weights.to(accelerator.device)
    start, total = time.time(), 0.0
    for step, (pictures, poor, ids) in enumerate(loader, 1):
        with accelerator.autocast():
            pixel_values = parser_inputs(pictures.cpu().numpy(), poor.tolist(), options.sample_size, enhancer)
        pixel_values = pixel_values.to(accelerator.device, memory_format=torch.channels_last)
        loss = parsing_loss(model(pixel_values).logits.float(), ids, weights)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += loss.item()
        last = step == options.steps
        if step % options.log_every == 0 or last:
            count = (step - 1) % options.log_every + 1
            line = f"step {step} loss {total / count:.4f} rate {schedule.get_last_lr()[0]:.2e}"
            total = 0.0
            if validation and accelerator.is_main_process:
                line += f" mean_iou {evaluate(accelerator.unwrap_model(model), validation, enhancer)[1]:.4f}"
            accelerator.print(f"{line} {time.time() - start:.0f} s", flush=True)
        if step % options.save_every == 0 or last:
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                accelerator.unwrap_model(model).save_pretrained(options.output_dir / "parser")


if __name__ == "__main__":
    main()
