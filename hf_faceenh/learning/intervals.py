"""How sure a mean over faces is: bootstrap intervals."""

from collections.abc import Sequence

import numpy as np


def bootstrap_interval(
    values: Sequence[float], faces: Sequence[str] | None = None, seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """95 % interval of the mean of `values` (percentile bootstrap).

    Args:
        values: one per picture.
        faces: which face each picture shows. Faces are drawn, with all their pictures, because several pictures of one
            face are no independent samples. Without it, pictures are drawn.
    """
    _, which = np.unique(np.arange(len(values)) if faces is None else faces, return_inverse=True)
    sums, counts = np.bincount(which, values), np.bincount(which)
    draws = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    low, high = np.percentile(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def mean_with_interval(values: Sequence[float], faces: Sequence[str] | None = None) -> dict:
    """{"mean", "interval": of `bootstrap_interval`, "missing": number of NaNs, which are left out}; mean and interval
    are `None` where all values are missing."""
    values = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(values)
    missing = int((~there).sum())
    if not there.any():
        return {"mean": None, "interval": None, "missing": missing}
    interval = bootstrap_interval(values[there], None if faces is None else np.asarray(faces)[there])
    return {"mean": float(values[there].mean()), "interval": interval, "missing": missing}
