"""How far the student's features are from the teacher's."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from hf_faceenh.learning.losses.base import Frozen, freeze
from hf_faceenh.learning.losses.teacher import at_side, check_features, check_teacher, features_of
from hf_faceenh.models.face_network import FaceEnhancerOutput


class DistillationLoss(Frozen):
    """How far the features that the student takes from degraded faces are from those of a pretrained teacher.

    Their channel counts differ, and the student's change when it is reduced, so what is compared does not depend on
    them: the attention maps of the noise features at every resolution of the student's, and the attribute features.
    With a student given, a learned 1×1 convolution per noise feature also takes its channels to the teacher's (Romero
    et al. 2015), and the part of the teacher's feature that this leaves unexplained, as a share of its square, counts
    as well. These adapters start at 0, so that they do not move the student before they have learned where it should
    go; they are the only parameters that are trained.

    Args:
        teacher: any face enhancer, of any sample size: faces are resized to it, and every noise feature of the student
            is compared with the teacher's of the nearest resolution, at the smaller of the two. It is frozen.
        student: the network in training, if there are to be adapters; used for its channel counts only.

    Raises:
        ValueError: for a teacher that is no enhancer, or does not give its features.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module | None = None):
        super().__init__()
        check_teacher(teacher)
        check_features(teacher)
        self.teacher = freeze(teacher)
        self.adapters = nn.ModuleList()
        if student is not None:
            self._make_adapters(student)

    @torch.no_grad()
    def _make_adapters(self, student: nn.Module) -> None:
        ours, theirs = (
            features_of(network, torch.zeros(1, 3, *[network.config.sample_size] * 2, device=network.device))[0]
            for network in (student, self.teacher)
        )
        for feature in ours:
            target = nearest_resolution(feature, theirs)
            self.adapters.append(make_adapter(feature.shape[1], target.shape[1], self.teacher.device))

    def forward(self, output: FaceEnhancerOutput, lq: torch.Tensor) -> torch.Tensor:
        """
        Args:
            output: the student's, of `lq`, with its features.
            lq: degraded faces, `[B, 3, S, S]` in [-1, 1].
        """
        with torch.no_grad():
            noise_features, attribute_feature = features_of(self.teacher, at_side(lq, self.teacher.config.sample_size))
        attention, adapted = [], []
        for index, ours in enumerate(output.noise_features):
            theirs = nearest_resolution(ours, noise_features)
            side = min(ours.shape[-1], theirs.shape[-1])
            difference = attention_map(ours, side) - attention_map(theirs, side)
            attention.append(difference.square().sum(dim=1).mean())
            if self.adapters:
                theirs = F.adaptive_avg_pool2d(theirs, side).float()
                rest = self.adapters[index](F.adaptive_avg_pool2d(ours, side)).float() - theirs
                adapted.append(rest.square().mean() / theirs.square().mean().clamp_min(1e-12))
        parts = [torch.stack(values).mean() for values in (attention, adapted) if values]
        return sum(parts) + attribute_distance(output.attribute_feature, attribute_feature)


def attention_map(feature: torch.Tensor, side: int) -> torch.Tensor:
    """Where a feature `[B, C, r, r]` is strong (Zagoruyko & Komodakis 2017): its sum of squares over the channels,
    averaged to side×side (≤ r), each face's map scaled to length 1. `[B, side²]`, whatever the number of channels."""
    strength = feature.float().square().sum(dim=1, keepdim=True)
    return F.normalize(F.adaptive_avg_pool2d(strength, side).flatten(1), dim=1)


def face_relations(feature: torch.Tensor) -> torch.Tensor:
    """Distances between the faces of a batch, `[B, D]` → `[B·(B − 1)/2]`, in units of their mean."""
    first, second = torch.triu_indices(len(feature), len(feature), offset=1, device=feature.device)
    distances = torch.linalg.vector_norm(feature[first] - feature[second], dim=1)
    return distances / distances.mean().clamp_min(1e-12)


def attribute_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Between attribute features `[B, D]`: 1 − cosine if both have one width; else how differently the two arrange the
    faces of the batch (Park et al. 2019, distance-wise), which takes three faces to differ and is 0 for fewer."""
    student, teacher = student.float(), teacher.float()
    if student.shape == teacher.shape:
        return 1 - F.cosine_similarity(student, teacher).mean()
    if len(student) < 3:
        return student.sum() * 0
    return F.smooth_l1_loss(face_relations(student), face_relations(teacher))


def nearest_resolution(feature: torch.Tensor, others: Sequence[torch.Tensor]) -> torch.Tensor:
    """The one of `others` whose side is nearest to the feature's, as a ratio."""
    side = feature.shape[-1]
    return min(others, key=lambda other: max(other.shape[-1], side) / min(other.shape[-1], side))


def make_adapter(in_channels: int, out_channels: int, device: torch.device) -> nn.Conv2d:
    """A 1×1 convolution that is 0, made without drawing random numbers."""
    adapter = nn.utils.skip_init(nn.Conv2d, in_channels, out_channels, 1, device=device)
    nn.init.zeros_(adapter.weight)
    nn.init.zeros_(adapter.bias)
    return adapter
