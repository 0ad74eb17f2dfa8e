"""How long pictures take here, learned from earlier ones."""

from wishes import Wishes

FIXED, PER_MEGAPIXEL, PER_FACE = 0.4, 2.4, 0.25  # seconds at 2× on two cores of a CPU


class Pace:
    """How much slower this machine and a model are than those that the figures above are from."""

    slowness: dict[str | None, float] = {}  # by model

    @classmethod
    def estimate(cls, megapixels: float, wishes: Wishes, faces: int = 0) -> float:
        """How many seconds a picture with so many faces to enhance will take."""
        return cls.slowness.get(wishes.model, 1.0) * _work(megapixels, wishes, faces)

    @classmethod
    def learn(cls, megapixels: float, wishes: Wishes, faces: int, seconds: float) -> None:
        if megapixels > 0.1:  # smaller ones say little
            before = cls.slowness.get(wishes.model, 1.0)
            cls.slowness[wishes.model] = before + 0.3 * (seconds / _work(megapixels, wishes, faces) - before)


def _work(megapixels: float, wishes: Wishes, faces: int) -> float:
    effort = 0.3 if not wishes.background else 8 if wishes.enlarge == 4 else 1  # 4× is a second pass over 2×
    return FIXED + PER_MEGAPIXEL * effort * megapixels + PER_FACE * faces


def duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"
