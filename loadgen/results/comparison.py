"""Compares two results, with confidence intervals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from loadgen.metrics.summary import NAN, e2e_ms, tokens_between, tpot_ms, ttft_ms, ttft_sent_ms
from loadgen.request import Record
from loadgen.results.result_reader import LoadedResult

RESAMPLES: Final = 2000
BLOCKS: Final = 10  # of the window, for rates: consecutive seconds are not independent


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of both results; ratio: second / first, low and high: its 95 % interval."""

    metric: str
    first: float
    second: float
    ratio: float
    low: float
    high: float


LATENCIES: Final[dict[str, Callable[[Record], float]]] = {
    "TTFT (ms)": ttft_ms,
    "TTFT from the send (ms)": ttft_sent_ms,
    "TPOT (ms)": tpot_ms,
    "end to end (ms)": e2e_ms,
}


def compare(first: LoadedResult, second: LoadedResult, seed: int = 0) -> list[MetricComparison]:
    """Compare median and p99 latencies, resampled by request, and token rates, resampled by blocks of the window."""
    rng = np.random.default_rng(seed)
    rows = [_row("tokens/s", _rates(first), _rates(second), np.mean, rng)]
    for name, of in LATENCIES.items():
        samples = _values(first, of), _values(second, of)
        for label, quantile in (("median", 50), ("p99", 99)):
            rows.append(_row(f"{name}, {label}", *samples, _percentile(quantile), rng))
    return rows


Statistic = Callable[..., Any]


def _percentile(quantile: float) -> Statistic:
    return lambda values, axis=None: np.percentile(values, quantile, axis=axis)


def _row(
    name: str, first: np.ndarray, second: np.ndarray, statistic: Statistic, rng: np.random.Generator
) -> MetricComparison:
    if not len(first) or not len(second):
        return MetricComparison(name, NAN, NAN, NAN, NAN, NAN)
    resampled = [
        statistic(values[rng.integers(len(values), size=(RESAMPLES, len(values)))], axis=1)
        for values in (first, second)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.percentile(resampled[1] / resampled[0], (2.5, 97.5))
    a, b = float(statistic(first)), float(statistic(second))
    return MetricComparison(name, a, b, b / a if a else NAN, float(low), float(high))


def _values(result: LoadedResult, of: Callable[[Record], float]) -> np.ndarray:
    values = np.array([of(record) for record in result.counted], dtype=float)
    kept: np.ndarray = values[np.isfinite(values)]
    return kept


def _rates(result: LoadedResult) -> np.ndarray:
    """Tokens per second by block of the window. Shape [BLOCKS], empty without a window."""
    window = result.window
    if window.end <= window.start:
        return np.array([])
    edges = np.linspace(window.start, window.end, BLOCKS + 1)
    rates: np.ndarray = tokens_between(result.records, edges) / np.diff(edges)
    return rates
