"""The two totals, the enhancer's and the discriminator's, and the settings that weigh their terms."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from hf_faceenh.learning.losses.adversarial import (
    GAMES,
    Game,
    damage_weights,
    feature_distance,
    parameters_frozen,
    r1_penalty,
)
from hf_faceenh.learning.losses.augmentation import augmented
from hf_faceenh.learning.losses.base import Terms, WeightedLoss
from hf_faceenh.learning.losses.distillation import DistillationLoss
from hf_faceenh.learning.losses.imitation import ImitationLoss
from hf_faceenh.learning.losses.perceptual import LAYERS, PerceptualLoss
from hf_faceenh.learning.losses.pixel import PIXEL_LOSSES
from hf_faceenh.learning.losses.similarity import SimilarityLoss
from hf_faceenh.learning.settings import check_settings
from hf_faceenh.models.face_network import FaceEnhancerOutput

ENHANCER_TERMS = ("pixel", "perceptual", "adversarial", "matching", "distillation", "imitation", "similarity")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses; a term of weight 0 is not computed. A term that is computed every k-th step counts k
    times there, so that its weight means the same for every k.

    Args:
        pixel: pixel loss: relative_l1, relative_l2, l1 or charbonnier.
        similarity: similarity loss: distance, or relative (to the degraded face's distance, as a logarithm).
        pixel_weight: of the pixel loss.
        perceptual_weight: of the distance of a vision model's features; needs a backbone.
        adversarial_weight: of the discriminator's value.
        matching_weight: of the distance of a projected discriminator's features.
        distillation_weight: of the distance from a teacher's features; needs a teacher.
        imitation_weight: of the pixel loss with the teacher's image in place of the sharp one; needs a teacher.
        similarity_weight: of the identity distance; needs a face recognizer.
        perceptual_layers: which of the vision model's hidden states are compared; the default is for MobileNetV2.
        distillation_adapters: compare noise features through learned 1×1 convolutions too.
        adversarial_by_damage: power of a degraded face's error with which it counts in the discriminator's value: 0,
            all faces alike; 1, one with twice the error twice as much; -1, half as much.
        augmentation: how far faces are recoloured, shifted and covered before the discriminator sees them, in [0, 1].
        r1_weight: γ of the R1 penalty of the discriminator gpen. StyleGAN2's rule is 0.0002·S²/B for B faces a step:
            1.6 for 8 faces of 256 px, 0.1 for 8 of 64 px. Under a far larger one it learns to tell nothing.
        r1_every: steps from one R1 penalty to the next.
        poor_every: every k-th step the discriminator learns from degraded instead of enhanced faces; 0: never.
        perceptual_every: steps from one perceptual loss to the next.
        similarity_every: steps from one similarity loss to the next.

    Raises:
        ValueError: for a value out of its range, or if there is a step without any loss.
    """

    pixel: Literal["relative_l1", "relative_l2", "l1", "charbonnier"] = "relative_l1"
    similarity: Literal["distance", "relative"] = "distance"
    pixel_weight: float = 1.0
    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.1
    matching_weight: float = 0.0
    distillation_weight: float = 0.0
    imitation_weight: float = 0.0
    similarity_weight: float = 0.0
    perceptual_layers: tuple[int, ...] = LAYERS
    distillation_adapters: bool = False
    adversarial_by_damage: float = 0.0
    augmentation: float = 0.0
    r1_weight: float = 1.6
    r1_every: int = 16
    poor_every: int = 2
    perceptual_every: int = 1
    similarity_every: int = 1

    def __post_init__(self):
        rules = {
            "pixel": (self.pixel in PIXEL_LOSSES, f"one of {', '.join(PIXEL_LOSSES)}"),
            "similarity": (self.similarity in ("distance", "relative"), "distance or relative"),
            "adversarial_by_damage": (-4 <= self.adversarial_by_damage <= 4, "in [-4, 4]"),
            "augmentation": (0 <= self.augmentation <= 1, "in [0, 1]"),
        }
        for name, value in vars(self).items():
            if name.endswith("_weight"):
                rules[name] = (value >= 0, "at least 0")
            if name.endswith("_every"):
                least = 0 if name == "poor_every" else 1
                rules[name] = (value >= least, f"at least {least}")
        check_settings("loss", self, rules)
        intervals = self.intervals()
        if not any(getattr(self, f"{name}_weight") > 0 and intervals.get(name, 1) == 1 for name in ENHANCER_TERMS):
            raise ValueError("The enhancer has no loss at every step: set one of its weights in loss above 0.")

    def intervals(self) -> dict[str, int]:
        """Term → steps from one computation to the next, of those that need not be computed at every step."""
        return {name: getattr(self, f"{name}_every") for name in ("r1", "perceptual", "similarity")}


class EnhancerLoss(WeightedLoss):
    """The enhancer's total: preset (pixel, perceptual, adversarial, matching), distillation, imitation and similarity.

    Args:
        config: weights; only what has one is built.
        perceptual: backbone of `PerceptualLoss`.
        recognizer: of `SimilarityLoss`.
        teacher: of `DistillationLoss` and `ImitationLoss`.
        student: the network in training, for the channel counts of adapters.
        game: that of the discriminator's kind.

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
        game: Game = GAMES["gpen"],
    ):
        super().__init__({name: getattr(config, f"{name}_weight") for name in ENHANCER_TERMS}, config.intervals())
        self.pixel, self.game = PIXEL_LOSSES[config.pixel], game
        self.by_damage, self.augmentation = config.adversarial_by_damage, config.augmentation
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

    @property
    def adapters(self) -> nn.ModuleList:
        """Those of the distillation, one per noise feature from S×S down to 4×4; empty where there are none."""
        return nn.ModuleList() if self.distillation is None else self.distillation.adapters

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
            lq: the same, degraded.
            discriminator: as it is now; needed for the adversarial and the matching term only.
            step: number of the optimiser step, from 0.

        Raises:
            ValueError: without the discriminator, where one of its terms has a weight.
        """
        enhanced, terms = output.sample.float(), {}
        if "pixel" in self.weights:
            terms["pixel"] = self.pixel(enhanced, hq, lq)
        if self.is_due("perceptual", step):
            terms["perceptual"] = self.perceptual(enhanced, hq)
        if judged := [name for name in ("adversarial", "matching") if name in self.weights]:
            self._need(judged[0], "discriminator", discriminator)
            with parameters_frozen(discriminator):
                terms |= self._judged(discriminator, enhanced, hq, lq, step)
        if "distillation" in self.weights:
            terms["distillation"] = self.distillation(output, lq)
        if "imitation" in self.weights:
            terms["imitation"] = self.imitation(enhanced, lq)
        if self.is_due("similarity", step):
            terms["similarity"] = self.similarity(enhanced, hq, lq)
        return terms

    def _judged(
        self, discriminator: nn.Module, enhanced: torch.Tensor, hq: torch.Tensor, lq: torch.Tensor, step: int
    ) -> Terms:
        """The terms of the discriminator, which sees enhanced and sharp faces augmented alike."""
        terms, seed = {}, 3 * step
        output = discriminator(augmented(enhanced, self.augmentation, seed))
        if "adversarial" in self.weights:
            values = self.game.generator(output.logits).mean(dim=1)
            terms["adversarial"] = (values * damage_weights(hq, lq, self.by_damage)).mean()
        if "matching" in self.weights:
            with torch.no_grad():
                target = discriminator(augmented(hq, self.augmentation, seed)).features
            terms["matching"] = feature_distance(output.features, target)
        return terms


class DiscriminatorLoss(WeightedLoss):
    """The discriminator's total: its game's loss on sharp and enhanced faces, and lazily R1 (Karras et al. 2020).

    Now and then degraded faces take the place of the enhanced ones. A discriminator that has never seen one puts them
    anywhere, mostly above the enhanced faces that it has learned to reject. The augmentation factor, which measures
    how far enhancing takes a face from degraded to sharp, would then mean nothing.

    Args:
        config: weight and interval of R1; the game's loss has the weight 1.
        game: that of the discriminator's kind; it decides whether there is R1.
    """

    def __init__(self, config: LossConfig, game: Game = GAMES["gpen"]):
        super().__init__({"discriminator": 1.0, "r1": config.r1_weight * game.penalised}, config.intervals())
        self.game, self.lq_every, self.augmentation = game, config.poor_every, config.augmentation

    def forward(
        self, discriminator: nn.Module, hq: torch.Tensor, enhanced: torch.Tensor, lq: torch.Tensor, step: int = 0
    ) -> Terms:
        """The terms that are due. `enhanced` gets no gradient."""
        turn = self.lq_every and step % self.lq_every == self.lq_every - 1
        rejected = lq if turn else enhanced.detach()
        real, fake = (
            discriminator(augmented(faces, self.augmentation, seed)).logits
            for seed, faces in ((3 * step + 1, hq), (3 * step + 2, rejected))
        )
        terms = {"discriminator": self.game.discriminator(real, fake)}
        if self.is_due("r1", step):
            terms["r1"] = r1_penalty(discriminator, hq)
        return terms
