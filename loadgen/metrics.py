"""Metrics by their symbols. Pure.

For one request: a its scheduled arrival, s when it was sent, f its first token, e its end, n its completion tokens.
TTFT = f − a.  e2e = e − a.  Dispatch delay = s − a: the load generator's own, so TTFT from the send is f − s.
TPOT = (e − f) / (n − 1).  ITL: gaps between the pieces of a stream; by token: m tokens at once are m gaps of an m-th.
Over requests: τ = (accepted + rounds) / rounds, tokens emitted a verification that had a draft, corrected or bonus one
included.  Jain's index of rates x: (Σx)² / (n Σx²), 1 when all are equal.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isnan
from typing import Final

import numpy as np

from loadgen.request import Record

NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class Spread:
    """How values lie; nan where there are none."""

    count: int
    mean: float
    std: float
    median: float
    p90: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Window:
    """What counts of a run: requests due from start to end, tokens that came meanwhile. Seconds of perf_counter."""

    start: float
    end: float

    def has(self, at: float) -> bool:
        """Whether a time is in it."""
        return self.start <= at <= self.end


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run comes to. Milliseconds from the scheduled arrival, but for `sent`; nan where nothing was measured."""

    requests: int
    errors: int
    faults: Mapping[str, int]
    prompt_tokens: int
    tokens: int
    duration_s: float
    requests_per_s: float
    tokens_per_s: float
    ttft: Spread
    ttft_sent: Spread  # from when it was sent: what tools that hide their own queue report
    e2e: Spread
    e2e_sent: Spread
    tpot: Spread
    itl: Spread  # by piece of the stream
    itl_token: Spread
    dispatch: Spread
    jain: float  # of users' rates
    worst_user_per_s: float
    rounds: int
    drafted: int
    accepted: int

    @property
    def tau(self) -> float:
        """Tokens emitted a verification that had a draft."""
        return (self.accepted + self.rounds) / self.rounds if self.rounds else NAN

    @property
    def draft_efficiency(self) -> float:
        """Accepted / drafted; not α."""
        return self.accepted / self.drafted if self.drafted else NAN


def summarise(records: Sequence[Record], window: Window | None = None) -> Summary:
    """One run; without a window from its first scheduled arrival to its last end."""
    window = window or Window(
        min((r.scheduled for r in records), default=0.0), max((r.ended for r in records), default=0.0)
    )
    counted = [record for record in records if window.has(record.scheduled)]
    good = [record for record in counted if not record.error and record.chunks]
    duration_s = window.end - window.start
    tokens = round(sum(_within(record, window) for record in records if not record.error))
    rates = [_rate(record) for record in good if record.count > 1]
    return Summary(
        requests=len(counted),
        errors=len(counted) - len(good),
        faults=dict(Counter(record.fault or "empty" for record in counted if record not in good))
        if len(counted) > len(good)
        else {},
        prompt_tokens=sum(record.prompt_tokens for record in good),
        tokens=tokens,
        duration_s=duration_s,
        requests_per_s=len(good) / duration_s if duration_s > 0 else NAN,
        tokens_per_s=tokens / duration_s if duration_s > 0 else NAN,
        ttft=spread(1e3 * (r.chunks[0].at - r.scheduled) for r in good),
        ttft_sent=spread(1e3 * (r.chunks[0].at - r.sent) for r in good),
        e2e=spread(1e3 * (r.ended - r.scheduled) for r in good),
        e2e_sent=spread(1e3 * (r.ended - r.sent) for r in good),
        tpot=spread(tpot for r in good if not isnan(tpot := tpot_ms(r))),
        itl=spread(gap for r in good for gap in itl_ms(r)),
        itl_token=spread(gap for r in good for gap in itl_token_ms(r)),
        dispatch=spread(1e3 * (r.sent - r.scheduled) for r in counted),
        jain=jain(rates),
        worst_user_per_s=min(rates, default=NAN),
        rounds=sum(record.rounds for record in good),
        drafted=sum(record.drafted_tokens for record in good),
        accepted=sum(record.accepted_tokens for record in good),
    )


def tpot_ms(record: Record) -> float:
    """Milliseconds a token after the first; nan of a request with fewer than two."""
    if record.count < 2:
        return NAN
    return 1e3 * (record.chunks[-1].at - record.chunks[0].at) / (record.count - 1)


def itl_ms(record: Record) -> list[float]:
    """Milliseconds between the pieces of a stream."""
    return [1e3 * (after.at - before.at) for before, after in pairwise(record.chunks)]


def itl_token_ms(record: Record) -> list[float]:
    """The same by token: of a burst every token has its share of the gap before it."""
    each = sizes(record)
    gaps: list[float] = []
    for gap, size in zip(itl_ms(record), each[1:], strict=True):
        whole = max(1, round(size))
        gaps += [gap / whole] * whole
    return gaps


def spread(values: Iterable[float]) -> Spread:
    """How they lie."""
    found = np.fromiter(values, float)
    if not len(found):
        return Spread(0, NAN, NAN, NAN, NAN, NAN, NAN)
    median, p90, p99 = (float(q) for q in np.percentile(found, (50, 90, 99)))
    return Spread(len(found), float(found.mean()), float(found.std()), median, p90, p99, float(found.max()))


def tokens_between(records: Iterable[Record], edges: np.ndarray) -> np.ndarray:
    """Tokens of answers without an error that came between each edge and the next, seconds."""
    good = [record for record in records if not record.error and record.chunks]
    at = [chunk.at for record in good for chunk in record.chunks]
    weights = [size for record in good for size in sizes(record)]
    counted: np.ndarray = np.histogram(at, edges, weights=weights)[0].astype(float)
    return counted


def jain(rates: Sequence[float]) -> float:
    """Fairness of rates, 1/n to 1."""
    squares = sum(rate * rate for rate in rates)
    return sum(rates) ** 2 / (len(rates) * squares) if squares else NAN


def sizes(record: Record) -> list[float]:
    """Tokens of every piece of a stream that has some: as told, or an equal share."""
    if any(chunk.tokens for chunk in record.chunks):
        return [float(len(chunk.tokens)) for chunk in record.chunks]
    return [record.count / len(record.chunks)] * len(record.chunks)


def _within(record: Record, window: Window) -> float:
    each = sizes(record) if record.chunks else []
    return sum(size for chunk, size in zip(record.chunks, each, strict=True) if window.has(chunk.at))


def _rate(record: Record) -> float:
    """Tokens per second that its user saw."""
    return record.count / max(record.ended - record.scheduled, 1e-9)
