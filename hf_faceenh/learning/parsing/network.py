"""The parser that is trained: its shape, what it sees and its loss."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from transformers import SegformerConfig, SegformerForSemanticSegmentation
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hf_faceenh.errors import explained
from hf_faceenh.learning.parsing.labels import LABELS

# The first stage works at half size, not SegFormer's quarter: a lip or a brow is two quarter-size cells high, and
# label maps downscaled to those and upscaled again keep a mean IoU of only 0.89, at half size 0.96.
ARCHITECTURE = {
    "depths": [1, 1, 2, 2],
    "strides": [2, 2, 2, 2],
    "patch_sizes": [5, 3, 3, 3],
    "sr_ratios": [16, 8, 4, 2],
    "hidden_sizes": [16, 24, 48, 96],
    "mlp_ratios": [2, 4, 4, 4],
    "num_attention_heads": [1, 1, 2, 4],
    "decoder_hidden_size": 32,
    "drop_path_rate": 0.0,  # few steps, strong augmentation: regularisation only slows it down
    "classifier_dropout_prob": 0.0,
}
STRIDE = 16  # of the last stage: sides are multiples of it


def make_model(sample_size: int) -> SegformerForSemanticSegmentation:
    names = dict(enumerate(LABELS))
    config = SegformerConfig(
        **ARCHITECTURE, id2label=names, label2id={name: i for i, name in names.items()}, sample_size=sample_size
    )
    model = SegformerForSemanticSegmentation(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            module.reset_parameters()  # transformers starts at N(0, 0.02): meant for fine-tuning, too slow here
    return model


def load_parser(name: str) -> SegformerForSemanticSegmentation:
    """A parser into the regions of `LABELS`, from a folder or the Hub, in float32.

    One that knows fewer of them gets the others, which begin as copies of its background.

    Raises:
        ValueError: in one line, where there is none, or one that knows other regions.
    """
    with explained(f"{name}: not a SegFormer", of=(OSError, ValueError)):
        model = SegformerForSemanticSegmentation.from_pretrained(name, dtype=torch.float32)
    known = tuple(model.config.id2label[i] for i in range(model.config.num_labels))
    if not {"background"} <= set(known) <= set(LABELS):
        raise ValueError(f"{name}: expected a parser into {', '.join(LABELS)}; got {model.config.id2label}.")
    return model if known == LABELS else _completed(model, known)


def _completed(model: SegformerForSemanticSegmentation, known: Sequence[str]) -> SegformerForSemanticSegmentation:
    """The same parser, into all regions of `LABELS` in their order.

    Args:
        model: a parser into `known`.
        known: some of `LABELS`, background among them, in any order.
    """
    rows = [known.index(name if name in known else "background") for name in LABELS]
    state = model.state_dict()
    for key in ("decode_head.classifier.weight", "decode_head.classifier.bias"):
        state[key] = state[key][rows]
    names = dict(enumerate(LABELS))
    settings = model.config.to_dict() | {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    completed = SegformerForSemanticSegmentation(SegformerConfig.from_dict(settings))
    completed.load_state_dict(state)
    return completed


def to_pixel_values(faces: torch.Tensor) -> torch.Tensor:
    """Faces in [-1, 1] → the network's input, normalised as ImageNet's pictures; `[B, 3, S, S]` float32 both."""
    mean, std = (faces.new_tensor(values)[:, None, None] for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    return ((faces + 1) / 2 - mean) / std


@torch.no_grad()
def parser_inputs(
    pictures: torch.Tensor, degraded: torch.Tensor, size: int, enhancer: torch.nn.Module | None = None
) -> torch.Tensor:
    """Pictures → the parser's `pixel_values`; the degraded ones through the enhancer, where there is one.

    Args:
        pictures: `[B, H, H, 3]` uint8.
        degraded: which of them are degraded, `[B]` bool.
        size: S of the parser.
        enhancer: any face enhancer, on the pictures' device.

    Returns:
        `[B, 3, S, S]` float32.
    """
    faces = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    inputs = resized(faces, size)
    if enhancer and degraded.any():
        enhanced = enhancer(resized(faces[degraded], enhancer.config.sample_size), return_dict=False)[0]
        inputs[degraded] = resized(enhanced.float().clamp(-1, 1), size)
    return to_pixel_values(inputs)


def resized(faces: torch.Tensor, size: int) -> torch.Tensor:
    """By area where they shrink, bicubic where they grow: `[B, 3, H, H]` in [-1, 1] → `[B, 3, size, size]`."""
    if size < faces.shape[-1]:
        return F.interpolate(faces, (size, size), mode="area")
    return F.interpolate(faces, (size, size), mode="bicubic").clamp(-1, 1) if size > faces.shape[-1] else faces


def class_weights(pixels: np.ndarray) -> torch.Tensor:
    """1 / √share of each class: without it the small parts are not found for hundreds of steps."""
    return torch.from_numpy(pixels / pixels.sum()).float().clamp_min(1e-6).rsqrt()


def parsing_loss(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy plus the Dice loss (Milletari et al. 2016) averaged over classes.

    Args:
        logits: `[B, C, h, w]`, upscaled to the size of `ids`.
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
