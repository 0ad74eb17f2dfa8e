"""How a run of training goes by: pure functions of how far it is."""

import math


def cosine(done: float) -> float:
    """Share of the learning rate that is left when a share `done` in [0, 1] of the steps is: from 1 to 0."""
    return 0.5 + 0.5 * math.cos(math.pi * done)
