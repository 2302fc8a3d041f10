"""The class of a run, from the number of requests in the system over time."""

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from loadgen.metrics.summary import Window
from loadgen.request import Record

RunClass = Literal["stable", "backlogged", "overloaded"]
GROWTH: Final = 1.5  # of the mean number in the system, from the second quarter of the window to the last
MIN_GROWTH: Final = 3.0  # requests; less is chance
OVERLOADED_RATE: Final = 0.9  # served / offered below which a growing backlog is an overload
OVERLOADED_FAILED: Final = 0.05  # share of requests that failed


def classify(records: Sequence[Record], window: Window) -> RunClass:
    """stable: no backlog grows. backlogged: one grows, or requests fail. overloaded: it cannot be worked off.

    The number in the system of a stable queue fluctuates around its mean. In an overload it grows with time.
    """
    counted = [record for record in records if window.has(record.scheduled)]
    if not counted:
        return "stable"
    failed = sum(bool(record.error) for record in counted) / len(counted)
    early, late = (_mean_in_system(records, *part) for part in _quarters(window))
    grows = late > GROWTH * early and late - early > MIN_GROWTH
    ended = sum(window.start <= record.ended < window.end and not record.error for record in records)
    if failed > OVERLOADED_FAILED or (grows and ended < OVERLOADED_RATE * len(counted)):
        return "overloaded"
    return "backlogged" if grows or failed else "stable"


def _quarters(window: Window) -> tuple[tuple[float, float], tuple[float, float]]:
    """The second quarter of the window and its last one."""
    quarter = (window.end - window.start) / 4
    return (window.start + quarter, window.start + 2 * quarter), (window.end - quarter, window.end)


def _mean_in_system(records: Sequence[Record], start: float, end: float) -> float:
    """Requests that are scheduled and have not ended, averaged over the time from start to end."""
    if end <= start:
        return 0.0
    spans = np.array([(record.scheduled, record.ended) for record in records])
    inside = np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], start)
    return float(np.maximum(inside, 0.0).sum() / (end - start))
