"""Ratios of two arms with 95 % confidence intervals. The arms were measured by turns: ratios are within a repeat. Pure.

Rates of whole runs: few repeats, whose logarithms are taken as normal (geometric mean, Student's t). Durations of
single passes: a busy moment makes outliers, so the median and a bootstrap of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

RESAMPLES: Final = 4000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % confidence interval."""

    value: float
    low: float
    high: float


def mean_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Interval | None:
    """Geometric mean of the repeats' ratios, with Student's t interval on their logarithms.

    None without repeats, with unequal numbers of them, or when a value is not positive. One repeat: a point.
    """
    if not ours or len(ours) != len(theirs) or min(*ours, *theirs) <= 0:
        return None
    logs = np.log(np.asarray(ours) / np.asarray(theirs))
    half = 0.0
    if len(logs) > 1:
        from scipy.stats import t  # noqa: PLC0415  # slow to load

        half = float(t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs)))
    centre = float(logs.mean())
    return Interval(*(float(np.exp(at)) for at in (centre, centre - half, centre + half)))


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Interval:
    """Median of the repeats' ratios, with its bootstrap percentile interval. The resamples are seeded."""
    ratios = np.asarray(ours) / np.asarray(theirs)
    draws = np.random.default_rng(0).integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), [2.5, 97.5])
    return Interval(float(np.median(ratios)), float(low), float(high))
