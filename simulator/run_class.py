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

    What counts is how long requests take, not the number in the system: at its start a run fills up to the number that
    its load needs, at any load, and at its end it empties. Requests that wait for their turn take longer from arrival
    to end. Requests that share a server become slower from token to token, and quicker again once none arrive: there
    the time from arrival to end may stay the same while the backlog grows.
    """
    counted = [record for record in records if window.has(record.scheduled)]
    if not counted:
        return "stable"
    failed = sum(bool(record.error) for record in counted) / len(counted)
    if failed > OVERLOADED_FAILED:
        return "overloaded"
    found = {_growth(*_backlog(counted)), _growth(*_backlog_by_pace(counted))}
    if "overloaded" in found:
        return "overloaded"
    return "backlogged" if failed or "backlogged" in found else "stable"


def _growth(backlog: Floats, limit: float) -> RunClass:
    """The class of a backlog in the last six eighths of a run [6], or []. limit: how far chance may let it grow."""
    if len(backlog) == 0 or backlog[-2:].mean() - backlog[:2].mean() <= limit:
        return "stable"
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
    parts = _by_eighth(due, np.array([record.ended for record in records]) - due)
    if not parts:
        return np.empty(0), 0.0
    rate = (len(due) - 1) / float(np.ptp(due))
    ends = [np.concatenate(parts[:2]), np.concatenate(parts[-2:])]
    error = rate * np.sqrt(sum(part.var(ddof=1) / len(part) for part in ends))
    return rate * np.array([part.mean() for part in parts]), CHANCE * float(np.sqrt(len(due) + error**2))


def _backlog_by_pace(records: Sequence[Record]) -> tuple[Floats, float]:
    """The same by the speed of the moment: a request's time if all of its tokens came as slowly as those of an eighth.

    The time per token is a ratio of sums, of the seconds that requests spent between their first and last tokens in an
    eighth and the tokens that they got in it; its error is that of a ratio. Empty without tokens.
    """
    begun = [record for record in records if record.chunks]
    due = np.array([record.scheduled for record in begun])
    firsts = _by_eighth(due, np.array([record.chunks[0].at for record in begun]) - due)
    if not firsts:
        return np.empty(0), 0.0
    spent, got = (np.array(sums) for sums in zip(*(_decoding(r, _edges(due)) for r in begun), strict=True))
    if not got.sum(axis=0).all():
        return np.empty(0), 0.0
    rate = (len(due) - 1) / float(np.ptp(due))
    tokens = np.mean([len(r.tokens) - len(r.chunks[0].tokens) for r in begun])
    backlog = rate * (
        np.array([part.mean() for part in firsts]) + tokens * spent.sum(axis=0) / got.sum(axis=0)
    )
    variance = float(len(due))
    for end in (slice(0, 2), slice(4, 6)):
        first, s, g = np.concatenate(firsts[end]), spent[:, end].sum(axis=1), got[:, end].sum(axis=1)
        residues = s - g * s.sum() / g.sum()
        variance += rate**2 * (
            first.var(ddof=1) / len(first) + tokens**2 * (residues**2).sum() / g.sum() ** 2
        )
    return backlog, CHANCE * float(np.sqrt(variance))


def _decoding(record: Record, edges: Floats) -> tuple[Floats, Floats]:
    """Seconds between a request's first and last tokens in the last six eighths, and its tokens in them: [6], [6]."""
    at = np.array([chunk.at for chunk in record.chunks])
    tokens = np.cumsum([0, *(len(chunk.tokens) for chunk in record.chunks[1:])])
    seconds = np.diff(np.clip(edges, at[0], at[-1]))
    counts = np.diff(np.interp(edges, at, tokens))
    return seconds, counts


def _edges(due: Floats) -> Floats:
    """The ends of the last six eighths of the arrivals, the first one's beginning included: [7]."""
    return np.asarray(due.min() + np.ptp(due) * np.arange(2, 9) / 8)


def _by_eighth(due: Floats, values: Floats) -> list[Floats]:
    """The values of requests due in each of the last six eighths of the arrivals; [] with too few requests."""
    if len(due) < 2 or np.ptp(due) <= 0:
        return []
    eighths = np.searchsorted(_edges(due)[:-1], due, side="right")
    parts = [values[eighths == n] for n in range(1, 7)]
    return parts if min(map(len, parts)) >= MIN_PER_EIGHTH else []
