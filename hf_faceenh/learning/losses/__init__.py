"""What training minimises. Faces are `[B, 3, S, S]` RGB in [-1, 1]; losses are scalars, means over the batch.

`EnhancerLoss` and `DiscriminatorLoss` (`total`) add up the terms, one file each. The networks that a term compares
with (backbone, recognizer, teacher, discriminator) are never trained by it.
"""

from hf_faceenh.learning.losses.adversarial import (
    GAMES,
    Game,
    damage_weights,
    discriminator_hinge,
    discriminator_logistic,
    feature_distance,
    generator_hinge,
    generator_logistic,
    r1_penalty,
)
from hf_faceenh.learning.losses.augmentation import augmented
from hf_faceenh.learning.losses.base import ERROR_FLOOR, Terms, face_errors, relative_error
from hf_faceenh.learning.losses.distillation import DistillationLoss, attention_map, attribute_distance
from hf_faceenh.learning.losses.imitation import ImitationLoss
from hf_faceenh.learning.losses.perceptual import PerceptualLoss
from hf_faceenh.learning.losses.pixel import charbonnier, relative_l1, relative_l2
from hf_faceenh.learning.losses.similarity import SimilarityLoss
from hf_faceenh.learning.losses.total import DiscriminatorLoss, EnhancerLoss, LossConfig

__all__ = [
    "ERROR_FLOOR",
    "GAMES",
    "DiscriminatorLoss",
    "DistillationLoss",
    "EnhancerLoss",
    "Game",
    "ImitationLoss",
    "LossConfig",
    "PerceptualLoss",
    "SimilarityLoss",
    "Terms",
    "attention_map",
    "attribute_distance",
    "augmented",
    "charbonnier",
    "damage_weights",
    "discriminator_hinge",
    "discriminator_logistic",
    "face_errors",
    "feature_distance",
    "generator_hinge",
    "generator_logistic",
    "r1_penalty",
    "relative_error",
    "relative_l1",
    "relative_l2",
]
