"""Aligned face → enhanced face → the probability of each region at each pixel."""

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

PARSER_SIZE = 512  # px, the side of a parser's input where its config has no `sample_size`


def dial(enhancer: torch.nn.Module) -> float | None:
    """The fidelity that an enhancer with such a dial takes by default; `None` for one without."""
    return getattr(enhancer.config, "fidelity", None)


def check_fidelity(fidelity: float | None, enhancer: torch.nn.Module) -> None:
    """
    Raises:
        ValueError: with one line, for `fidelity` where the enhancer has no such dial.
    """
    if fidelity is not None and dial(enhancer) is None:
        raise ValueError(
            f"The pipeline's enhancer, a {type(enhancer).__name__}, has no fidelity to set. Leave fidelity out, or "
            "load the pipeline with one that has, such as a CodeFormerFaceEnhancer."
        )


def enhance(enhancer: torch.nn.Module, crops: torch.Tensor, fidelity: float | None = None) -> torch.Tensor:
    """Faces `[B, 3, S, S]` in [0, 1] → the same, enhanced; with `fidelity`, of an enhancer that has the dial."""
    dialled = {} if fidelity is None else {"fidelity": fidelity}
    output = enhancer((crops * 2 - 1).to(enhancer.dtype), **dialled).sample.float()
    return ((output + 1) / 2).clamp(0, 1)


def parse(parser: PreTrainedModel, faces: torch.Tensor) -> torch.Tensor:
    """Faces `[B, 3, S, S]` in [0, 1] → the probability of each label `[B, L, S, S]`."""
    side = getattr(parser.config, "sample_size", PARSER_SIZE)
    mean = faces.new_tensor(IMAGENET_DEFAULT_MEAN)[:, None, None]
    std = faces.new_tensor(IMAGENET_DEFAULT_STD)[:, None, None]
    pixel_values = F.interpolate((faces - mean) / std, size=(side, side), mode="bilinear", antialias=True)
    logits = parser(pixel_values=pixel_values.to(parser.dtype)).logits.float()
    return F.interpolate(logits, size=faces.shape[-2:], mode="bilinear").softmax(dim=1)
