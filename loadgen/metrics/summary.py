"""Summary metrics of a run, defined by symbols. Pure.

For one request: a is its scheduled arrival, s when it was sent, f its first and l its last token, e its end, n the
number of its completion tokens.
TTFT = f − a; from the send f − s.  e2e = e − a.  TPOT = (l − f) / (n − 1).
Dispatch delay = s − a: that of the load generator itself.
ITL: gaps between the pieces of a stream; by token: a piece of m tokens is m gaps of an m-th each.
Over requests: τ = (accepted + rounds) / rounds: tokens per verification with a draft, including the corrected or
bonus one.  Jain's index of rates x: (Σx)² / (n Σx²), 1 if all are equal.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, filterfalse, pairwise
from math import isnan
from operator import attrgetter
from typing import Final

import numpy as np

from loadgen.request import Record

NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class Spread:
    """Statistics of values; nan without any."""

    count: int
    mean: float
    std: float
    median: float
    p90: float
    p99: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a run that counts: requests due and tokens received in it. Seconds of the records' clock."""

    start: float
    end: float

    def has(self, at: float) -> bool:
        """Whether a time is within the window."""
        return self.start <= at <= self.end


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of a run. Latencies in ms from the scheduled arrival, `…_sent` from the send; nan: not measured.

    itl: by piece of the stream. jain: fairness of users' token rates. worst_user_per_s: the lowest of these rates.
    """

    requests: int
    errors: int
    faults: Mapping[str, int]
    prompt_tokens: int
    tokens: int
    duration_s: float
    requests_per_s: float
    tokens_per_s: float
    ttft: Spread
    ttft_sent: Spread
    e2e: Spread
    e2e_sent: Spread
    tpot: Spread
    itl: Spread
    itl_token: Spread
    dispatch: Spread
    jain: float
    worst_user_per_s: float
    rounds: int
    drafted: int
    accepted: int

    @property
    def tau(self) -> float:
        """Tokens emitted per verification with a draft."""
        return (self.accepted + self.rounds) / self.rounds if self.rounds else NAN

    @property
    def draft_efficiency(self) -> float:
        """Accepted / drafted; not α."""
        return self.accepted / self.drafted if self.drafted else NAN


def summarise(records: Sequence[Record], window: Window | None = None) -> Summary:
    """Summarise a run. Without a window: from its first scheduled arrival to its last end."""
    window = window or _whole(records)
    counted = [record for record in records if window.has(record.scheduled)]
    good = list(filter(answered, counted))
    duration_s = window.end - window.start
    tokens = _tokens_within(records, window)
    rates = [_rate(record) for record in good if record.count > 1]
    return Summary(
        requests=len(counted),
        errors=len(counted) - len(good),
        faults=_faults(counted),
        prompt_tokens=_total("prompt_tokens", good),
        tokens=tokens,
        duration_s=duration_s,
        requests_per_s=_per_s(len(good), duration_s),
        tokens_per_s=_per_s(tokens, duration_s),
        ttft=spread(map(ttft_ms, good)),
        ttft_sent=spread(map(ttft_sent_ms, good)),
        e2e=spread(map(e2e_ms, good)),
        e2e_sent=spread(map(e2e_sent_ms, good)),
        tpot=spread(filterfalse(isnan, map(tpot_ms, good))),
        itl=spread(chain.from_iterable(map(itl_ms, good))),
        itl_token=spread(chain.from_iterable(map(itl_token_ms, good))),
        dispatch=spread(map(dispatch_ms, counted)),
        jain=jain(rates),
        worst_user_per_s=min(rates, default=NAN),
        rounds=_total("rounds", good),
        drafted=_total("drafted_tokens", good),
        accepted=_total("accepted_tokens", good),
    )


def answered(record: Record) -> bool:
    """Whether a request has tokens and no error."""
    return not record.error and bool(record.chunks)


def ttft_ms(record: Record) -> float:
    """Milliseconds from the scheduled arrival to the first token of a request that has one."""
    return 1e3 * (record.chunks[0].at - record.scheduled)


def ttft_sent_ms(record: Record) -> float:
    """Milliseconds from the send to the first token of a request that has one."""
    return 1e3 * (record.chunks[0].at - record.sent)


def e2e_ms(record: Record) -> float:
    """Milliseconds from the scheduled arrival to the end."""
    return 1e3 * (record.ended - record.scheduled)


def e2e_sent_ms(record: Record) -> float:
    """Milliseconds from the send to the end."""
    return 1e3 * (record.ended - record.sent)


def dispatch_ms(record: Record) -> float:
    """Milliseconds between the scheduled arrival and the send: the load generator's own delay."""
    return 1e3 * (record.sent - record.scheduled)


def tpot_ms(record: Record) -> float:
    """Milliseconds per token after the first; nan for fewer than two tokens."""
    if record.count < 2:
        return NAN
    return 1e3 * (record.chunks[-1].at - record.chunks[0].at) / (record.count - 1)


def itl_ms(record: Record) -> list[float]:
    """Milliseconds between the pieces of a stream."""
    return [1e3 * (after.at - before.at) for before, after in pairwise(record.chunks)]


def itl_token_ms(record: Record) -> list[float]:
    """Milliseconds between tokens: the tokens of one piece share the gap before it equally."""
    each = sizes(record)
    gaps: list[float] = []
    for gap, size in zip(itl_ms(record), each[1:], strict=True):
        whole = max(1, round(size))
        gaps += [gap / whole] * whole
    return gaps


def spread(values: Iterable[float]) -> Spread:
    """Statistics of values."""
    found = np.fromiter(values, float)
    if not len(found):
        return Spread(0, NAN, NAN, NAN, NAN, NAN, NAN)
    median, p90, p99 = (float(q) for q in np.percentile(found, (50, 90, 99)))
    return Spread(len(found), float(found.mean()), float(found.std()), median, p90, p99, float(found.max()))


def tokens_between(records: Iterable[Record], edges: np.ndarray) -> np.ndarray:
    """Tokens received between consecutive edges (seconds), of answers without an error. Shape [edges - 1]."""
    good = list(filter(answered, records))
    at = [chunk.at for record in good for chunk in record.chunks]
    weights = [size for record in good for size in sizes(record)]
    counted: np.ndarray = np.histogram(at, edges, weights=weights)[0].astype(float)
    return counted


def jain(rates: Sequence[float]) -> float:
    """Jain's index of rates, from 1/n to 1; nan without rates."""
    squares = sum(rate * rate for rate in rates)
    return sum(rates) ** 2 / (len(rates) * squares) if squares else NAN


def sizes(record: Record) -> list[float]:
    """Tokens of every piece of a stream: as the endpoint reported them, or an equal share each."""
    if any(chunk.tokens for chunk in record.chunks):
        return [float(len(chunk.tokens)) for chunk in record.chunks]
    return [record.count / len(record.chunks)] * len(record.chunks)


def _whole(records: Sequence[Record]) -> Window:
    """From the first scheduled arrival to the last end."""
    starts, ends = [record.scheduled for record in records], [record.ended for record in records]
    return Window(min(starts, default=0.0), max(ends, default=0.0))


def _faults(counted: Iterable[Record]) -> dict[str, int]:
    """Requests without an answer, by kind of error; "empty": neither an error nor a token."""
    return dict(Counter(record.fault or "empty" for record in counted if not answered(record)))


def _total(field: str, records: Iterable[Record]) -> int:
    return sum(map(attrgetter(field), records))


def _per_s(count: int, duration_s: float) -> float:
    return count / duration_s if duration_s > 0 else NAN


def _tokens_within(records: Iterable[Record], window: Window) -> int:
    """Tokens received within a window, of answers without an error, whenever their requests were due."""
    return round(sum(_within(record, window) for record in filter(answered, records)))


def _within(record: Record, window: Window) -> float:
    pieces = zip(record.chunks, sizes(record), strict=True)
    return sum(size for chunk, size in pieces if window.has(chunk.at))


def _rate(record: Record) -> float:
    """Tokens per second that the user received."""
    return record.count / max(record.ended - record.scheduled, 1e-9)
