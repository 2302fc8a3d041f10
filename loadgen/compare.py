"""Two results side by side, with intervals."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from loadgen.metrics import NAN, Window, tpot_ms
from loadgen.request import Record
from loadgen.rows import read_rows

RESAMPLES: Final = 2000
BLOCKS: Final = 10  # of the window, for rates: what happens in one second is not independent of the next


class ResultError(ValueError):
    """A result that cannot be read; the text names the file."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A result file and its requests."""

    path: Path
    body: dict[str, Any]
    records: Sequence[Record]

    @property
    def name(self) -> str:
        """As reports call it."""
        return str(self.body["config"].get("label") or self.path.stem)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both, and second / first with its 95 % interval."""

    figure: str
    first: float
    second: float
    ratio: float
    low: float
    high: float


def load(path: Path) -> Loaded:
    """A result of `loadgen run`. Raises ResultError."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if body.get("kind") != "load":
            raise ResultError(f"{path}: a result of kind {body.get('kind')!r}, not of `loadgen run`")
        with path.with_name(body["requests_file"]).open(encoding="utf-8") as rows:
            return Loaded(path, body, read_rows(rows))
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror or error}: {error.filename}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ResultError):
            raise
        raise ResultError(f"{path}: not a result of loadgen: {type(error).__name__}: {error}") from None


LATENCIES: Final[dict[str, Callable[[Record], float]]] = {
    "TTFT (ms)": lambda record: 1e3 * (record.chunks[0].at - record.scheduled),
    "TTFT from the send (ms)": lambda record: 1e3 * (record.chunks[0].at - record.sent),
    "TPOT (ms)": tpot_ms,
    "end to end (ms)": lambda record: 1e3 * (record.ended - record.scheduled),
}


def compare(first: Loaded, second: Loaded, seed: int = 0) -> list[Row]:
    """Medians and p99 of latencies, resampled by request; token rate, by blocks of the counted window."""
    rng = np.random.default_rng(seed)
    rows = [_row("tokens/s", _rates(first), _rates(second), np.mean, rng)]
    for name, of in LATENCIES.items():
        mine, theirs = _values(first, of), _values(second, of)
        for told, quantile in (("median", 50), ("p99", 99)):
            rows.append(_row(f"{name}, {told}", mine, theirs, _percentile(quantile), rng))
    return rows


Statistic = Callable[..., Any]


def _percentile(quantile: float) -> Statistic:
    return lambda values, axis=None: np.percentile(values, quantile, axis=axis)


def _row(
    name: str, mine: np.ndarray, theirs: np.ndarray, statistic: Statistic, rng: np.random.Generator
) -> Row:
    if not len(mine) or not len(theirs):
        return Row(name, NAN, NAN, NAN, NAN, NAN)
    resampled = [
        statistic(values[rng.integers(len(values), size=(RESAMPLES, len(values)))], axis=1)
        for values in (mine, theirs)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.percentile(resampled[1] / resampled[0], (2.5, 97.5))
    a, b = float(statistic(mine)), float(statistic(theirs))
    return Row(name, a, b, b / a if a else NAN, float(low), float(high))


def _window(result: Loaded) -> Window:
    return Window(result.body["window"]["start"], result.body["window"]["end"])


def _values(result: Loaded, of: Callable[[Record], float]) -> np.ndarray:
    window = _window(result)
    good = [r for r in result.records if window.has(r.scheduled) and r.chunks and not r.error]
    values = np.array([of(record) for record in good], dtype=float)
    kept: np.ndarray = values[np.isfinite(values)]
    return kept


def _rates(result: Loaded) -> np.ndarray:
    """Tokens per second in every block of the window."""
    window = _window(result)
    pieces = [
        (chunk.at, len(chunk.tokens) or record.count / len(record.chunks))
        for record in result.records
        if not record.error
        for chunk in record.chunks
        if window.has(chunk.at)
    ]
    if not pieces or window.end <= window.start:
        return np.array([])
    times, tokens = zip(*pieces, strict=True)
    counted, edges = np.histogram(times, BLOCKS, (window.start, window.end), weights=tokens)
    rates: np.ndarray = counted / np.diff(edges)
    return rates
