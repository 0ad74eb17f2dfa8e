"""Learning rates, as shares of the highest: how they rise at first and fall to the end."""

import math

WARM_UP = 0.05  # share of the steps in `warm_up_then_cosine`


def warm_up(step: int, steps: int) -> float:
    """Rises in equal parts over the first `steps` steps, then stays at 1; `step` counts from 0."""
    return min(1.0, (step + 1) / max(1, steps))


def cosine(done: float) -> float:
    """What is left when a share `done` in [0, 1] of the steps is done: half a cosine, from 1 to 0."""
    return 0.5 + 0.5 * math.cos(math.pi * done)


FALLS = {"cosine": cosine, "linear": lambda done: 1 - done, "constant": lambda done: 1.0}


def warm_up_then_cosine(step: int, steps: int) -> float:
    """Both, over `steps` steps in all."""
    rising = max(1, round(WARM_UP * steps))
    return warm_up(step, rising) * cosine(max(0, step - rising) / max(1, steps - rising))
