"""The discriminators that there are to train against, by kind; they are built for training only."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from hf_faceenh.learning.discriminators.projected import LAYERS, ProjectedDiscriminator
from hf_faceenh.learning.settings import check_settings
from hf_faceenh.models import FaceDiscriminator
from hf_faceenh.models.discriminator import discriminator_config

__all__ = ["DiscriminatorConfig", "ProjectedDiscriminator", "make_discriminator"]


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Which discriminator.

    Args:
        kind: gpen, GPEN's, all of which is trained; or projected, heads on frozen features of perceptual_backbone.
        channel_multiplier: of gpen, as in GPEN.
        narrow: of gpen, as in GPEN.
        layers: of projected: hidden states of the backbone, finest first; the default is for MobileNetV2.
        width: of projected: channels of the mixed features and of the heads.
        parts: of projected: judge eyes and mouth by themselves too, each as much as the whole face.
        grey: of projected: judge brightness only, so that it can't paint coloured spots into eyes.
        side: of projected: px of the whole face as it is judged, eyes and mouth at half of it; at most the face's own.

    Raises:
        ValueError: for a value out of its range, or one that the kind has no use for.
    """

    kind: Literal["gpen", "projected"] = "gpen"
    channel_multiplier: float = 1
    narrow: float = 0.25
    layers: tuple[int, ...] = LAYERS
    width: int = 64
    parts: bool = False
    grey: bool = False
    side: int = 512

    def __post_init__(self):
        rules = {
            "kind": (self.kind in ("gpen", "projected"), "gpen or projected"),
            "channel_multiplier": (self.channel_multiplier > 0, "above 0"),
            "narrow": (self.narrow > 0, "above 0"),
            "width": (self.width >= 1, "at least 1"),
            "parts": (not self.parts or self.kind == "projected", "false, but for the kind projected"),
            "grey": (not self.grey or self.kind == "projected", "false, but for the kind projected"),
            "side": (self.side >= 32, "at least 32"),
        }
        check_settings("discriminator", self, rules)


def make_discriminator(config: DiscriminatorConfig, size: int, backbone: nn.Module | None) -> nn.Module:
    """A discriminator for faces of `size` px, untrained; its output has the `logits`.

    Raises:
        ValueError: for a kind that needs a backbone without one, or one of the wrong kind.
    """
    if config.kind == "gpen":
        return FaceDiscriminator(**discriminator_config(size, config.channel_multiplier, config.narrow))
    if backbone is None:
        raise ValueError(
            "discriminator.kind is projected, but there is no perceptual_backbone; give one, or choose gpen."
        )
    return ProjectedDiscriminator(backbone, config.layers, config.width, config.parts, config.grey, config.side)
