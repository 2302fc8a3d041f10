"""The class of a run, from how long its requests take as time goes on."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from loadgen.metrics.summary import Window
from loadgen.request import Record

Floats = npt.NDArray[np.floating[Any]]
RunClass = Literal["stable", "backlogged", "overloaded"]
CHANCE: Final = 1.5  # times the growth that chance makes at load one: a stable queue stays below
LASTING: Final = 0.2  # share of the growth that each half of an overload brings; a burst brings most at once
FALLING: Final = 0.25  # times the limit: a backlog that shrinks by this at the end is being worked off
MIN_PER_EIGHTH: Final = 3  # requests due in an eighth of the run; with fewer nothing can be said
OVERLOADED_FAILED: Final = 0.05  # share of requests that failed


def classify(records: Sequence[Record], window: Window) -> RunClass:
    """stable: no backlog grows. backlogged: one grows at some time, or requests fail. overloaded: one grows throughout.

    What counts is the time from arrival to end, not the number in the system: at its start a run fills up to the number
    that its load needs, at any load, and at its end it empties.
    """
    counted = [record for record in records if window.has(record.scheduled)]
    if not counted:
        return "stable"
    failed = sum(bool(record.error) for record in counted) / len(counted)
    if failed > OVERLOADED_FAILED:
        return "overloaded"
    backlog, limit = _backlog(counted)
    if len(backlog) == 0 or backlog[-2:].mean() - backlog[:2].mean() <= limit:
        return "backlogged" if failed else "stable"
    halves = np.diff([backlog[part : part + 2].mean() for part in (0, 2, 4)])
    lasts = halves.min() > LASTING * halves.sum() and backlog[-1] > backlog[-2] - FALLING * limit
    return "overloaded" if lasts else "backlogged"


def _backlog(records: Sequence[Record]) -> tuple[Floats, float]:
    """The backlog in requests in the last six eighths of the arrivals [6], and how far chance may let it grow.

    By Little's law it is the rate of arrivals times a request's time. At load one it is a random walk with a variance
    of up to 2 a request (Poisson arrivals, exponential services), so of n from the second quarter to the last of 2n
    requests; below load one it stays closer. The means have errors of their own. Empty with too few requests.
    """
    due = np.array([record.scheduled for record in records])
    took = np.array([record.ended for record in records]) - due
    span = float(np.ptp(due))
    eighths = np.searchsorted(float(due.min()) + span * np.arange(1, 8) / 8, due, side="right")
    parts = [took[eighths == n] for n in range(2, 8)]
    if span <= 0 or min(map(len, parts)) < MIN_PER_EIGHTH:
        return np.empty(0), 0.0
    rate = (len(due) - 1) / span
    ends = [np.concatenate(parts[:2]), np.concatenate(parts[-2:])]
    error = rate * np.sqrt(sum(part.var(ddof=1) / len(part) for part in ends))
    return rate * np.array([part.mean() for part in parts]), CHANCE * float(np.sqrt(len(due) + error**2))
