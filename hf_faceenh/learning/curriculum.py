"""How damaged the next round's faces are: discriminator's means → augmentation factor → degradation coefficients."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from hf_faceenh.learning.degradation import TYPES
from hf_faceenh.learning.losses import face_errors, relative_error
from hf_faceenh.learning.settings import check_settings


def augmentation_factor(m_lq: float, m_hq: float, m_enh: float, largest: float = 10.0) -> float | None:
    """r = (m_hq − m_lq) / (m_hq − m_enh): r_v of StyleGAN2-ADA (Karras et al. 2020, eq. 1), with the degraded faces
    in place of the validation set.

    1: the enhanced faces look no better to the discriminator than the degraded ones; large: it can hardly tell them
    from sharp ones.

    The degraded faces are those of the worst damage that the coefficients allow, whatever the round's. With the
    round's own, r grows with the damage, for light damage leaves nothing to gain: a round with too small a factor
    would be followed by less damage, hence a smaller factor, and so on down. Against the worst damage, r falls as the
    damage grows, and rises as the enhancer learns (`docs/how_it_works.md` has figures).

    Args:
        m_lq: mean of the discriminator's logits over faces of the worst damage.
        m_hq: mean over sharp faces.
        m_enh: mean over enhanced faces.
        largest: upper bound of r.

    Returns:
        r in (0, largest]; `largest` where the enhanced faces look at least as sharp as the sharp ones; `None` where
        the degraded ones do (m_hq ≤ m_lq) or a mean is not finite: such a discriminator says nothing.
    """
    if not all(map(math.isfinite, (m_lq, m_hq, m_enh))) or m_hq <= m_lq:
        return None
    if m_hq <= m_enh:
        return largest
    return min((m_hq - m_lq) / (m_hq - m_enh), largest)


@dataclass(frozen=True)
class CurriculumConfig:
    """How coefficients follow the augmentation factor.

    Args:
        target: augmentation factor to keep to; > 1.
        dead_band: share of the target by which the smoothed factor may be off without consequence, in [0, 1).
        step: by how much a coefficient changes, in (0, 1].
        lowest: bound of the coefficients, in [0, highest].
        highest: bound of the coefficients, in [lowest, 1].
        smoothing: share of its former value that the smoothed logarithm of the factor keeps per round, in [0, 1).
        types_per_round: how many types of damage change at a time, ≥ 1.
        largest: factors above it count as this; above the dead band.

    Raises:
        ValueError: for a value outside its range.
    """

    target: float = 1.5
    dead_band: float = 0.1
    step: float = 0.1
    lowest: float = 0.1
    highest: float = 1.0
    smoothing: float = 0.5
    types_per_round: int = 2
    largest: float = 10.0

    def __post_init__(self):
        rules = {
            "target": (self.target > 1, "above 1"),
            "dead_band": (0 <= self.dead_band < 1, "in [0, 1)"),
            "step": (0 < self.step <= 1, "in (0, 1]"),
            "lowest": (0 <= self.lowest <= self.highest, f"in [0, highest ({self.highest})]"),
            "highest": (self.highest <= 1, "at most 1"),
            "smoothing": (0 <= self.smoothing < 1, "in [0, 1)"),
            "types_per_round": (self.types_per_round >= 1, "at least 1"),
            "largest": (self.largest > self.target * (1 + self.dead_band), "above target · (1 + dead_band)"),
        }
        check_settings("curriculum", self, rules)


@dataclass(frozen=True)
class Decision:
    """What the end of a round decides.

    Args:
        factor: augmentation factor of the round; `None` where it is undefined.
        smoothed: the same, smoothed over the rounds; `None` before the first defined one.
        direction: 1: coefficients raised, -1: lowered, 0: left alone.
        changed: types whose coefficients changed.
        reason: why, in one phrase.
        coefficients: of the next round.
    """

    factor: float | None
    smoothed: float | None
    direction: int
    changed: tuple[str, ...]
    reason: str
    coefficients: dict[str, float]


class Curriculum:
    """Decides, round by round, on the coefficients of the next.

    Where the smoothed factor is above the target's dead band, the enhancer copes well: the types of which it leaves
    least are raised. Where it is below, those of which it leaves most are lowered. What it leaves is the coefficient
    times the share that remains: of light damage a large share always remains, and by the share alone a type that was
    lowered once would be lowered again and again. A type that no face had stays as it is.
    """

    def __init__(self, config: CurriculumConfig):
        self.config = config
        self._log_factor: float | None = None  # smoothed

    def decide(
        self, means: Mapping[str, float], errors: Mapping[str, float | None], coefficients: Mapping[str, float]
    ) -> Decision:
        """
        Args:
            means: of the discriminator's logits over "lq" (of the worst damage), "hq" and "enhanced" faces, from
                `DiscriminatorMeans`.
            errors: type → what is left of its damage, from `TypeErrors`; `None` or missing: unknown.
            coefficients: type → coefficient of the round that ends.
        """
        factor = augmentation_factor(means["lq"], means["hq"], means["enhanced"], self.config.largest)
        if factor is None:
            reason = "the discriminator does not tell sharp from degraded"
            return Decision(None, self.smoothed, 0, (), reason, dict(coefficients))
        self._smooth(factor)
        direction, reason = self._direction()
        types = self._types(direction, errors, coefficients)
        if direction and not types:
            direction, reason = 0, f"{reason}, but every coefficient is at its bound or has no samples"
        adjusted = dict(coefficients) | {kind: self._adjusted(coefficients[kind], direction) for kind in types}
        return Decision(factor, self.smoothed, direction, types, reason, adjusted)

    @property
    def smoothed(self) -> float | None:
        """Geometric moving average of the factors so far."""
        return None if self._log_factor is None else math.exp(self._log_factor)

    def _smooth(self, factor: float) -> None:
        # The logarithm is symmetric: 1/r lowers it as much as r raises it. It is bounded, so that a factor near 0 is
        # soon forgotten.
        value = math.log(max(factor, 1 / self.config.largest))
        kept = 0.0 if self._log_factor is None else self.config.smoothing
        self._log_factor = kept * (self._log_factor or 0.0) + (1 - kept) * value

    def _direction(self) -> tuple[int, str]:
        config, smoothed = self.config, self.smoothed
        low, high = config.target * (1 - config.dead_band), config.target * (1 + config.dead_band)
        if smoothed > high:
            return 1, f"the factor {smoothed:.2f} is above {high:.2f}"
        if smoothed < low:
            return -1, f"the factor {smoothed:.2f} is below {low:.2f}"
        return 0, f"the factor {smoothed:.2f} is between {low:.2f} and {high:.2f}"

    def _types(
        self, direction: int, errors: Mapping[str, float | None], coefficients: Mapping[str, float]
    ) -> tuple[str, ...]:
        """Those to change, unless they are at their bound: raised where least is left, lowered where most is."""
        if direction == 0:
            return ()
        config = self.config
        left = {
            kind: value * errors[kind]
            for kind, value in coefficients.items()
            if errors.get(kind) is not None and (value < config.highest if direction > 0 else value > config.lowest)
        }
        return tuple(sorted(left, key=lambda kind: direction * left[kind])[: config.types_per_round])

    def _adjusted(self, coefficient: float, direction: int) -> float:
        value = coefficient + direction * self.config.step
        return round(min(max(value, self.config.lowest), self.config.highest), 6)  # 0.3, not 0.30000000000000004

    def state_dict(self) -> dict[str, float | None]:
        return {"log_factor": self._log_factor}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        self._log_factor = state["log_factor"]


class _Sums:
    """Running sums in one tensor, so that one all-reduce adds those of all processes."""

    def __init__(self, shape: tuple[int, ...]):
        self._sums = torch.zeros(shape)

    def sums(self) -> torch.Tensor:
        """To be saved, or added to those of other processes and given back to `load`."""
        return self._sums.clone()

    def load(self, sums: torch.Tensor) -> None:
        self._sums = sums.clone()

    def _add(self, sums: torch.Tensor) -> None:
        self._sums = self._sums.to(sums.device) + sums


class TypeErrors(_Sums):
    """What is left of each type's damage: Σ tag · (enhanced error / degraded error) / Σ tag over the faces.

    An error is a face's mean absolute difference from the sharp one (plus `ERROR_FLOOR`, as in `relative_l1`). 1: no
    better than the degraded face; 0: restored. A face counts for a type by the strength (tag) with which it had it.
    """

    def __init__(self):
        super().__init__((2, len(TYPES)))

    def load(self, sums: torch.Tensor) -> None:
        """Those of a round that began with other types (in an older version) are left out: it begins anew."""
        if sums.shape == self._sums.shape:
            super().load(sums)

    @torch.no_grad()
    def add(self, enhanced: torch.Tensor, hq: torch.Tensor, lq: torch.Tensor, tags: torch.Tensor) -> None:
        """Faces `[B, 3, S, S]` in [-1, 1]; tags `[B, len(TYPES)]` in [0, 1]. What is not finite is left out."""
        ratio = relative_error(face_errors(enhanced.float(), hq), face_errors(lq.float(), hq))[:, None]  # [B, 1]
        finite = ratio.isfinite()
        # Multiplied by 0 rather than picked out: how many there are would have to be waited for on a GPU.
        tags, ratio = tags.to(ratio) * finite, ratio.where(finite, 0)
        self._add(torch.stack([(tags * ratio).sum(dim=0), tags.sum(dim=0)]))

    def means(self) -> dict[str, float | None]:
        """Type → relative error; `None` for a type that no face had."""
        errors, weights = self._sums.tolist()
        pairs = zip(TYPES, errors, weights, strict=True)
        return {kind: error / weight if weight > 0 else None for kind, error, weight in pairs}


class DiscriminatorMeans(_Sums):
    """Means of the discriminator's logits over degraded, sharp and enhanced faces, the same number of each."""

    def __init__(self):
        super().__init__((4,))

    @torch.no_grad()
    def add(self, lq: torch.Tensor, hq: torch.Tensor, enhanced: torch.Tensor) -> None:
        """Logits of one shape, `[B]` or `[B, N]`.

        Raises:
            ValueError: for different shapes.
        """
        if not lq.shape == hq.shape == enhanced.shape:
            shapes = ", ".join(str(list(logits.shape)) for logits in (lq, hq, enhanced))
            raise ValueError(f"DiscriminatorMeans needs as many degraded as sharp and enhanced faces; got {shapes}.")
        sums = [logits.float().sum() for logits in (lq, hq, enhanced)]
        self._add(torch.stack([*sums, torch.full_like(sums[0], lq.numel())]))

    def means(self) -> dict[str, float]:
        """Kind of face ("lq", "hq", "enhanced") → mean; NaN before any was added."""
        *sums, number = self._sums.tolist()
        names = ("lq", "hq", "enhanced")
        return {name: total / number if number else math.nan for name, total in zip(names, sums, strict=True)}
