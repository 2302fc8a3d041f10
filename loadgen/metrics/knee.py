"""Knees of load curves, and the load at which two curves cross. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

KEPT_UP: Final = 0.95  # served / offered
NEAR_BEST: Final = 0.9  # of the best throughput


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One point of a load curve: its level (requests/s, or concurrent users) and medians over repeats."""

    level: float
    served: float  # requests/s
    tokens: float  # tokens/s
    latency_ms: float  # end to end from the scheduled arrival


def knee_of_rates(curve: Sequence[LoadPoint]) -> float | None:
    """The highest rate up to which every rate was kept up with; None if the lowest was not."""
    knee = None
    for at in sorted(curve, key=lambda at: at.level):
        if at.served < KEPT_UP * at.level:
            break
        knee = at.level
    return knee


def knee_of_users(curve: Sequence[LoadPoint]) -> float | None:
    """The fewest concurrent users with nearly the best throughput: beyond it, users only wait longer."""
    best = max((at.tokens for at in curve), default=0.0)
    return min((at.level for at in curve if best and at.tokens >= NEAR_BEST * best), default=None)


def crossover(first: Sequence[LoadPoint], second: Sequence[LoadPoint], open_loop: bool) -> float | None:
    """The level from which on the first curve is no better: in latency under a rate, in throughput with users.

    The ratio is interpolated linearly between levels. None: no crossover.
    """
    ratios = sorted(_advantages(first, second, open_loop).items())
    for (low, before), (high, after) in pairwise(ratios):
        if before > 1 >= after:
            return low + (high - low) * (before - 1) / (before - after)
    return None


def _advantages(
    first: Sequence[LoadPoint], second: Sequence[LoadPoint], open_loop: bool
) -> Mapping[float, float]:
    """Level -> by what factor the first curve is better."""
    other = {at.level: at for at in second}
    both = [(at, other[at.level]) for at in first if at.level in other]
    if open_loop:
        return {a.level: b.latency_ms / a.latency_ms for a, b in both if a.latency_ms > 0}
    return {a.level: a.tokens / b.tokens for a, b in both if b.tokens > 0}
