"""Teachers: any face enhancer, of any sample size, and the features that it gives."""

import inspect
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from hf_faceenh.models import FaceDiscriminator


def check_teacher(teacher: nn.Module) -> None:
    """
    Raises:
        ValueError: for a model that is no enhancer.
    """
    sized = hasattr(getattr(teacher, "config", None), "sample_size")
    if not sized or isinstance(teacher, FaceDiscriminator):  # which has a size as well
        raise ValueError(
            f"{type(teacher).__name__} is no teacher: expected a face enhancer, whose config has sample_size."
        )


def check_features(teacher: nn.Module) -> None:
    """
    Raises:
        ValueError: for an enhancer that does not give its features.
    """
    if "return_features" not in inspect.signature(teacher.forward).parameters:
        raise ValueError(
            f"The features of a {type(teacher).__name__} are not a student's. Learn from its images instead: "
            "--loss.imitation_weight 1 --loss.distillation_weight 0"
        )


def at_side(faces: torch.Tensor, side: int) -> torch.Tensor:
    """`[B, 3, S, S]` → `[B, 3, side, side]`."""
    if faces.shape[-1] == side:
        return faces
    return F.interpolate(faces, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def features_of(enhancer: nn.Module, faces: torch.Tensor) -> tuple[Sequence[torch.Tensor], torch.Tensor]:
    """Noise features, from S×S down, and attribute feature.

    Our enhancers give them without making an image: the generating network takes most of the time (of GPEN's, four
    fifths).
    """
    if hasattr(enhancer, "convolutional_network") and hasattr(enhancer, "mapping_network"):
        noise_features = enhancer.convolutional_network(faces.contiguous(memory_format=torch.channels_last))
        return noise_features, enhancer.mapping_network(noise_features[-1].flatten(1))
    output = enhancer(faces, return_features=True)
    return output.noise_features, output.attribute_feature
