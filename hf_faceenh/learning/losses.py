"""What training minimises. Faces are `[B, 3, S, S]` RGB in [-1, 1]; losses are scalars, means over the batch.

`EnhancerLoss` and `DiscriminatorLoss` are the two totals; the terms stand before them. What a term compares with
(backbone, recognizer, teacher, discriminator) is never trained by it.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from hf_faceenh.learning.identity import check_recognizer, embed, embedding_distance
from hf_faceenh.models.channels import Keep, Reducible, noise_feature_groups
from hf_faceenh.models.enhancer import FaceEnhancerOutput

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Terms = dict[str, torch.Tensor]  # name → scalar, unweighted


class FrozenLoss(nn.Module):
    """A loss whose networks stay in evaluation mode, whatever mode is asked for."""

    def train(self, mode: bool = True) -> "FrozenLoss":
        return super().train(False)


# Pixels


def relative_l1(enhanced: torch.Tensor, hq: torch.Tensor, lq: torch.Tensor, floor: float = 0.02) -> torch.Tensor:
    """The logarithm of each face's mean absolute error, relative to its poor input's, averaged over the batch.

    0: no better than the input; below 0: better. An absolute error lets the heavily damaged faces, whose error is ten
    times larger, decide alone, and the network learns to smooth good faces as well. Here a tenth less error counts the
    same on every face, and harming a good face costs as much as healing a poor one gains. The logarithm, unlike the
    bare ratio, bounds what one face with an almost perfect input can do to a step. `floor` keeps errors that nobody
    sees (0.02 of the range of 2) from counting.
    """
    error = (enhanced - hq).abs().mean(dim=(1, 2, 3)) + floor
    return (error / ((lq - hq).abs().mean(dim=(1, 2, 3)) + floor)).log().mean()


def charbonnier(enhanced: torch.Tensor, hq: torch.Tensor, epsilon: float = 1e-3) -> torch.Tensor:
    """√(d² + ε²) − ε of the difference d (Charbonnier et al. 1994; for images, Lai et al. 2017): L1, but smooth where
    d is 0. The −ε, which has no gradient, makes it 0 there."""
    return ((enhanced - hq).square() + epsilon**2).sqrt().mean() - epsilon


PixelLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # of enhanced, sharp and poor faces
PIXEL_LOSSES: dict[str, PixelLoss] = {
    "relative_l1": relative_l1,
    "l1": lambda enhanced, hq, lq: F.l1_loss(enhanced, hq),
    "charbonnier": lambda enhanced, hq, lq: charbonnier(enhanced, hq),
}


# Features of a vision model


class PerceptualLoss(FrozenLoss):
    """Distance between the features of enhanced and sharp faces (Johnson et al. 2016), each position's feature vector
    scaled to length 1 as in LPIPS (Zhang et al. 2018), averaged over the chosen hidden states.

    Args:
        backbone: `transformers` vision model that takes ImageNet-normalised `pixel_values` and returns
            `hidden_states`, maps `[B, C, H, W]` or tokens `[B, N, C]`. It is frozen.
        layers: which of them to compare.

    Raises:
        ValueError: for a model without hidden states of pictures, or with too few.
    """

    def __init__(self, backbone: nn.Module, layers: Sequence[int] = (2, 4, 7, 11)):
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.layers = tuple(layers)
        self.options = {"output_hidden_states": True}
        if "interpolate_pos_encoding" in inspect.signature(backbone.forward).parameters:
            self.options["interpolate_pos_encoding"] = True  # transformers for pictures of one size take others so
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self._check()

    @torch.no_grad()
    def _check(self) -> None:
        name = type(self.backbone).__name__
        hidden = None
        if getattr(self.backbone, "main_input_name", None) == "pixel_values":
            try:
                hidden = self.backbone(torch.zeros(1, 3, 64, 64, device=self.backbone.device), **self.options)
                hidden = hidden.hidden_states
            except (TypeError, AttributeError):  # it knows no such argument, or returns none
                hidden = None
        if not hidden or hidden[0].ndim not in (3, 4):
            raise ValueError(
                f"{name} is no perceptual backbone: it returns no hidden states of pictures. Take a transformers "
                "vision model, such as MobileNetV2Model or ResNetModel."
            )
        if not self.layers or not all(-len(hidden) <= layer < len(hidden) for layer in self.layers):
            raise ValueError(
                f"{name} has the hidden states 0 to {len(hidden) - 1}; asked for were "
                f"{', '.join(map(str, self.layers)) or 'none'}. Choose others with loss.perceptual_layers."
            )

    def features(self, faces: torch.Tensor) -> list[torch.Tensor]:
        """`[B, C, …]` per chosen hidden state, each position's vector of length 1."""
        hidden = self.backbone(((faces + 1) / 2 - self.mean) / self.std, **self.options).hidden_states
        chosen = [hidden[layer].float() for layer in self.layers]
        return [F.normalize(maps.transpose(1, 2) if maps.ndim == 3 else maps, dim=1) for maps in chosen]

    def forward(self, enhanced: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = self.features(hq)
        pairs = zip(self.features(enhanced), target, strict=True)
        return torch.stack([(a - b).square().sum(dim=1).mean() for a, b in pairs]).mean()


# Identity


IDENTITY_FLOOR = 0.02  # added to both sides of a relative distance, so that distances near 0 do not count


class SimilarityLoss(FrozenLoss):
    """Mean distance of enhanced from sharp faces as a face recognizer measures it.

    Args:
        recognizer: see `hf_faceenh.learning.identity`. It is frozen.
        relative: the logarithm of each face's distance relative to its poor input's instead, for the reasons that
            `relative_l1` gives: a bare distance is decided by the heavily damaged faces.

    Raises:
        ValueError: for a model that is no recognizer.
    """

    def __init__(self, recognizer: nn.Module, relative: bool = False):
        super().__init__()
        check_recognizer(recognizer)
        self.recognizer = recognizer.eval().requires_grad_(False)
        self.relative = relative

    def forward(self, enhanced: torch.Tensor, hq: torch.Tensor, lq: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            target = embed(self.recognizer, hq)
            before = embedding_distance(self.recognizer, embed(self.recognizer, lq), target) if self.relative else None
        distance = embedding_distance(self.recognizer, embed(self.recognizer, enhanced), target)
        if not self.relative:
            return distance.mean()
        return ((distance + IDENTITY_FLOOR) / (before + IDENTITY_FLOOR)).log().mean()


# Distillation


def attention_map(feature: torch.Tensor, side: int) -> torch.Tensor:
    """Where a feature `[B, C, r, r]` is strong (Zagoruyko & Komodakis 2017): its sum of squares over the channels,
    averaged to side×side (≤ r), each face's map scaled to length 1. `[B, side²]`; how many channels there are does not
    matter."""
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


def check_teacher(teacher: nn.Module) -> None:
    """
    Raises:
        ValueError: for a model that is no enhancer, or one without features.
    """
    config = getattr(teacher, "config", None)
    if not hasattr(config, "sample_size") or "return_features" not in inspect.signature(teacher.forward).parameters:
        raise ValueError(
            f"{type(teacher).__name__} is no teacher: expected a face enhancer whose config has sample_size and whose "
            "forward has return_features, such as FaceEnhancer or GPENFaceEnhancer."
        )


class DistillationLoss(FrozenLoss):
    """How far the features that the student takes from poor faces are from those of a pretrained teacher.

    Channel counts differ, and change when the student is reduced. So compared are, of the noise features, the
    attention maps at every resolution of the student's, and the attribute features. With a student given, a learned
    1×1 convolution per noise feature also takes its channels to the teacher's (Romero et al. 2015), and what is left
    there of the teacher's feature, as a share of its square, counts as well. These adapters begin at 0, so that they
    do not move the student before they have learned where it should go; they are the only parameters that are trained.

    Args:
        teacher: any face enhancer, of any sample size: faces are resized to it, and every noise feature of the student
            is compared with the teacher's of the next resolution, at the smaller of both. It is frozen.
        student: the network in training, if there shall be adapters; used for its channel counts only.

    Raises:
        ValueError: for a teacher that is no enhancer.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module | None = None):
        super().__init__()
        check_teacher(teacher)
        self.teacher = teacher.eval().requires_grad_(False)
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

    @torch.no_grad()
    def remake(
        self,
        student_channels: Sequence[int],
        kept: Sequence[torch.Tensor | None],
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        """Fits the adapters to a reduced student; what they have learned about the kept channels stays.

        Args:
            student_channels: of its noise features, from S×S down to 4×4.
            kept: for each, which of the former channels these are; `None` where all.
            optimizer: Adam or AdamW of the former adapters, if it shall hold the moments of the new ones as well.
        """
        for index, (width, channels) in enumerate(zip(student_channels, kept, strict=True)):
            old = self.adapters[index]
            if channels is None:
                continue
            new = make_adapter(width, old.out_channels, old.weight.device)
            channels = channels.to(old.weight.device)
            new.weight.copy_(old.weight[:, channels])
            new.bias.copy_(old.bias)
            if optimizer is not None:
                for name, parameter in old.named_parameters():
                    state = optimizer.state.pop(parameter, {})
                    optimizer.state[new.get_parameter(name)] = {
                        key: value[:, channels] if value.ndim == 4 else value for key, value in state.items()
                    }
            self.adapters[index] = new

    def forward(self, output: FaceEnhancerOutput, lq: torch.Tensor) -> torch.Tensor:
        """
        Args:
            output: the student's, of `lq`, with its features.
            lq: poor faces, `[B, 3, S, S]` in [-1, 1].
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


class ImitationLoss(FrozenLoss):
    """The pixel loss of the student's enhanced faces, the teacher's in the sharp ones' place (Ba & Caruana 2014).

    What damage has taken from a face, nobody can restore; a sharp face asks for it all the same, differently at every
    step, and most of a small network's gradient is that noise. The teacher's image is what can be restored of it.

    Args:
        teacher: any face enhancer, of any sample size: faces are resized to it, and its own back. It is frozen.
        pixel: the pixel loss, of enhanced, sharp and poor faces.

    Raises:
        ValueError: for a teacher that is no enhancer.
    """

    def __init__(self, teacher: nn.Module, pixel: PixelLoss):
        super().__init__()
        check_teacher(teacher)
        self.teacher = teacher.eval().requires_grad_(False)
        self.pixel = pixel

    def forward(self, enhanced: torch.Tensor, lq: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            theirs = self.teacher(at_side(lq, self.teacher.config.sample_size), return_dict=False)[0]
            theirs = at_side(theirs.float(), lq.shape[-1])
        return self.pixel(enhanced, theirs, lq)


def at_side(faces: torch.Tensor, side: int) -> torch.Tensor:
    """`[B, 3, S, S]` → `[B, 3, side, side]`."""
    if faces.shape[-1] == side:
        return faces
    return F.interpolate(faces, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def features_of(enhancer: nn.Module, faces: torch.Tensor) -> tuple[Sequence[torch.Tensor], torch.Tensor]:
    """Noise features, from S×S down, and attribute feature; without the image, where the enhancer is one of ours: the
    generating network takes most of the time (GPEN's four fifths)."""
    if hasattr(enhancer, "convolutional_network") and hasattr(enhancer, "mapping_network"):
        noise_features = enhancer.convolutional_network(faces.contiguous(memory_format=torch.channels_last))
        return noise_features, enhancer.mapping_network(noise_features[-1].flatten(1))
    output = enhancer(faces, return_features=True)
    return output.noise_features, output.attribute_feature


def nearest_resolution(feature: torch.Tensor, others: Sequence[torch.Tensor]) -> torch.Tensor:
    """That of `others` whose side is nearest to the feature's, as a ratio."""
    side = feature.shape[-1]
    return min(others, key=lambda other: max(other.shape[-1], side) / min(other.shape[-1], side))


def make_adapter(in_channels: int, out_channels: int, device: torch.device) -> nn.Conv2d:
    """A 1×1 convolution that is 0, made without drawing random numbers."""
    adapter = nn.utils.skip_init(nn.Conv2d, in_channels, out_channels, 1, device=device)
    nn.init.zeros_(adapter.weight)
    nn.init.zeros_(adapter.bias)
    return adapter


# Adversarial


def generator_adversarial(logits: torch.Tensor) -> torch.Tensor:
    """The non-saturating loss (Goodfellow et al. 2014): −log σ of the discriminator's logits for enhanced faces."""
    return F.softplus(-logits.float()).mean()


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """The logistic loss: of the discriminator's logits for sharp (`real`) and for enhanced (`fake`) faces."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def r1_penalty(discriminator: nn.Module, hq: torch.Tensor) -> torch.Tensor:
    """Half the squared gradient of the discriminator's value at sharp faces (Mescheder et al. 2018); its weight is
    then their γ, and StyleGAN2's. In float32 also under autocast: a gradient of gradients has no loss scaling."""
    hq = hq.detach().float().requires_grad_(True)
    with torch.autocast(hq.device.type, enabled=False), torch.enable_grad():
        (gradient,) = torch.autograd.grad(discriminator(hq).logits.sum(), hq, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() / 2


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """What is computed within it gives the network's parameters no gradient."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


# The two totals

ENHANCER_TERMS = ("pixel", "perceptual", "adversarial", "distillation", "imitation", "similarity")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses; a term of weight 0 is not computed. A term that is computed every k-th step counts k
    times there, so that its weight means the same for every k.

    Args:
        pixel: pixel loss: relative_l1, l1 or charbonnier.
        similarity: similarity loss: distance, or relative (to the poor face's distance, as a logarithm).
        pixel_weight: of the pixel loss.
        perceptual_weight: of the distance of a vision model's features; needs a backbone.
        adversarial_weight: of the discriminator's value.
        distillation_weight: of the distance from a teacher's features; needs a teacher.
        imitation_weight: of the pixel loss with the teacher's image in the sharp one's place; needs a teacher.
        similarity_weight: of the identity distance; needs a face recognizer.
        perceptual_layers: which of the vision model's hidden states are compared; the default is for MobileNetV2.
        distillation_adapters: compare noise features through learned 1×1 convolutions too.
        r1_weight: γ of the discriminator's R1 penalty. StyleGAN2's rule is 0.0002·S²/B for B faces a step: 1.6 for
            8 faces of 256 px, 0.1 for 8 of 64 px. Under a far larger one it learns to tell nothing.
        r1_every: steps from one R1 penalty to the next.
        poor_every: every k-th step the discriminator learns from poor instead of enhanced faces; 0: never.
        perceptual_every: likewise, of the perceptual loss.
        similarity_every: likewise, of the similarity loss.

    Raises:
        ValueError: for a value out of its range, or if there is a step without any loss.
    """

    pixel: Literal["relative_l1", "l1", "charbonnier"] = "relative_l1"
    similarity: Literal["distance", "relative"] = "distance"
    pixel_weight: float = 1.0
    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.1
    distillation_weight: float = 0.0
    imitation_weight: float = 0.0
    similarity_weight: float = 0.0
    perceptual_layers: tuple[int, ...] = (2, 4, 7, 11)
    distillation_adapters: bool = False
    r1_weight: float = 1.6
    r1_every: int = 16
    poor_every: int = 2
    perceptual_every: int = 1
    similarity_every: int = 1

    def __post_init__(self):
        if self.pixel not in PIXEL_LOSSES:
            raise ValueError(f"loss.pixel must be one of {', '.join(PIXEL_LOSSES)}; got {self.pixel!r}.")
        if self.similarity not in ("distance", "relative"):
            raise ValueError(f"loss.similarity must be distance or relative; got {self.similarity!r}.")
        for name, value in vars(self).items():
            if name.endswith("_weight") and not value >= 0:
                raise ValueError(f"loss.{name} must be at least 0; got {value!r}.")
            least = 0 if name == "poor_every" else 1
            if name.endswith("_every") and value < least:
                raise ValueError(f"loss.{name} must be at least {least}; got {value!r}.")
        if not any(getattr(self, f"{name}_weight") > 0 and self.every(name) == 1 for name in ENHANCER_TERMS):
            raise ValueError("The enhancer has no loss at every step: set one of its weights in loss above 0.")

    def every(self, name: str) -> int:
        """Steps from one computation of a term to the next."""
        return getattr(self, f"{name}_every", 1)


class WeightedLoss(FrozenLoss):
    """Terms with weights; those of weight 0 are left out.

    Args:
        config: weights and intervals.
        weights: of all terms that there may be, by name.
    """

    def __init__(self, config: LossConfig, weights: dict[str, float]):
        super().__init__()
        self.config = config
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}

    def is_due(self, name: str, step: int) -> bool:
        return name in self.weights and step % self.config.every(name) == 0

    def total(self, terms: Terms) -> torch.Tensor:
        """The weighted sum, each term times its interval."""
        return torch.stack(
            [self.weights[name] * self.config.every(name) * value for name, value in terms.items()]
        ).sum()


class EnhancerLoss(WeightedLoss):
    """The enhancer's total: preset (pixel, perceptual, adversarial), distillation, imitation and similarity.

    Args:
        config: weights; only what has one is built.
        perceptual: backbone of `PerceptualLoss`.
        recognizer: of `SimilarityLoss`.
        teacher: of `DistillationLoss` and `ImitationLoss`.
        student: the network in training, for the channel counts of adapters.

    Raises:
        ValueError: where a network that has a weight is missing or of the wrong kind.
    """

    def __init__(
        self,
        config: LossConfig,
        perceptual: nn.Module | None = None,
        recognizer: nn.Module | None = None,
        teacher: nn.Module | None = None,
        student: nn.Module | None = None,
    ):
        super().__init__(config, {name: getattr(config, f"{name}_weight") for name in ENHANCER_TERMS})
        self.pixel = PIXEL_LOSSES[config.pixel]
        self.perceptual = self.similarity = self.distillation = self.imitation = None
        if "perceptual" in self.weights:
            self._need("perceptual", "perceptual_backbone", perceptual)
            self.perceptual = PerceptualLoss(perceptual, config.perceptual_layers)
        if "similarity" in self.weights:
            self._need("similarity", "recognizer", recognizer)
            self.similarity = SimilarityLoss(recognizer, relative=config.similarity == "relative")
        if "distillation" in self.weights:
            self._need("distillation", "teacher", teacher)
            if config.distillation_adapters:
                self._need("distillation", "student", student)
            self.distillation = DistillationLoss(teacher, student if config.distillation_adapters else None)
        if "imitation" in self.weights:
            self._need("imitation", "teacher", teacher)
            self.imitation = ImitationLoss(teacher, self.pixel)

    @staticmethod
    def _need(term: str, name: str, network: nn.Module | None) -> None:
        if network is None:
            raise ValueError(f"loss.{term}_weight is above 0, but there is no {name}; give one, or weigh it 0.")

    @property
    def needs_features(self) -> bool:
        """Whether the output must have noise features and attribute feature."""
        return self.distillation is not None

    def forward(
        self,
        output: FaceEnhancerOutput,
        hq: torch.Tensor,
        lq: torch.Tensor,
        discriminator: nn.Module | None = None,
        step: int = 0,
    ) -> Terms:
        """The terms that are due, for `total` and for the log.

        Args:
            output: the enhancer's, of `lq`; with its features where `needs_features`.
            hq: sharp faces.
            lq: their poor twins.
            discriminator: as it is now; needed for the adversarial term only.
            step: number of the optimiser step, from 0.

        Raises:
            ValueError: without the discriminator, where the adversarial term has a weight.
        """
        enhanced, terms = output.sample.float(), {}
        if "pixel" in self.weights:
            terms["pixel"] = self.pixel(enhanced, hq, lq)
        if self.is_due("perceptual", step):
            terms["perceptual"] = self.perceptual(enhanced, hq)
        if "adversarial" in self.weights:
            self._need("adversarial", "discriminator", discriminator)
            with frozen(discriminator):
                terms["adversarial"] = generator_adversarial(discriminator(enhanced).logits)
        if "distillation" in self.weights:
            terms["distillation"] = self.distillation(output, lq)
        if "imitation" in self.weights:
            terms["imitation"] = self.imitation(enhanced, lq)
        if self.is_due("similarity", step):
            terms["similarity"] = self.similarity(enhanced, hq, lq)
        return terms

    def remake_adapters(
        self, old: Reducible, new: Reducible, keep: Keep, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        """Fits the adapters, where there are any, to the reduced student.

        Args:
            old: the student before; `new`: after the reduction.
            keep: layer → channels that stayed.
            optimizer: the one before, if it shall hold the moments of the new adapters as well.
        """
        if self.distillation is None or not self.distillation.adapters:
            return
        kept = [keep.get(group.name) for group in noise_feature_groups(old.channel_groups())]
        widths = [group.width for group in noise_feature_groups(new.channel_groups())]
        self.distillation.remake(widths, kept, optimizer)


class DiscriminatorLoss(WeightedLoss):
    """The discriminator's total: its logistic loss on sharp and enhanced faces, and lazily R1 (Karras et al. 2020).

    Now and then poor faces take the place of the enhanced ones. A discriminator that never saw one puts them anywhere,
    mostly above the enhanced faces that it learned to reject, and the augmentation factor, which measures how far
    enhancing takes a face from poor to sharp, means nothing.

    Args:
        config: weight and interval of R1; the logistic loss has the weight 1.
    """

    def __init__(self, config: LossConfig):
        super().__init__(config, {"discriminator": 1.0, "r1": config.r1_weight})

    def forward(
        self, discriminator: nn.Module, hq: torch.Tensor, enhanced: torch.Tensor, lq: torch.Tensor, step: int = 0
    ) -> Terms:
        """The terms that are due. `enhanced` gets no gradient."""
        every = self.config.poor_every
        rejected = lq if every and step % every == every - 1 else enhanced.detach()
        real, fake = (discriminator(faces).logits for faces in (hq, rejected))
        terms = {"discriminator": discriminator_loss(real, fake)}
        if self.is_due("r1", step):
            terms["r1"] = r1_penalty(discriminator, hq)
        return terms
