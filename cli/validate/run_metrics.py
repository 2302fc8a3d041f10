"""What a run is judged by, from the records of its users: the same for a live and a simulated one. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import isnan, nan
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from loadgen.metrics.summary import Window, answered, itl_ms, tokens_between, tpot_ms, ttft_ms
from loadgen.request import Record

SLICE_S: Final = 2.0  # of the interval of throughput


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Spread(_Stored):
    """Milliseconds over requests or rounds; nan without any."""

    mean: float
    p50: float
    p95: float


class RunMetrics(_Stored):
    """Metrics of one run.

    ttft: from when a request was due. round: between the pieces of a stream, each the tokens of one verification.
    rates: tokens/s of all users in consecutive slices of about SLICE_S.
    """

    tokens_per_s: float
    ttft: Spread
    tpot: Spread
    round: Spread
    requests: int
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of a run. of: its value; unit: as shown."""

    name: str
    unit: str
    of: Callable[[RunMetrics], float]


METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric("throughput", "tok/s", lambda run: run.tokens_per_s),
        Metric("TTFT mean", "ms", lambda run: run.ttft.mean),
        Metric("TTFT p50", "ms", lambda run: run.ttft.p50),
        Metric("TTFT p95", "ms", lambda run: run.ttft.p95),
        Metric("TPOT mean", "ms", lambda run: run.tpot.mean),
        Metric("TPOT p50", "ms", lambda run: run.tpot.p50),
        Metric("TPOT p95", "ms", lambda run: run.tpot.p95),
        Metric("round mean", "ms", lambda run: run.round.mean),
        Metric("round p50", "ms", lambda run: run.round.p50),
        Metric("round p95", "ms", lambda run: run.round.p95),
    )
}


def metrics_of(records: Sequence[Record], window: Window) -> RunMetrics:
    """Metrics of what falls into the counted interval (`Users.counted`)."""
    good = [record for record in records if answered(record)]
    first = [record for record in good if record.scheduled > window.start]
    edges = np.linspace(window.start, window.end, 1 + max(1, round((window.end - window.start) / SLICE_S)))
    tokens = tokens_between(good, edges)
    return RunMetrics(
        tokens_per_s=float(tokens.sum()) / (window.end - window.start),
        ttft=_spread([ttft_ms(record) for record in first]),
        tpot=_spread([tpot_ms(record) for record in good]),
        round=_spread(list(chain.from_iterable(map(itl_ms, good)))),
        requests=len(first),
        rates=tuple((tokens / np.diff(edges)).tolist()),
    )


def mean_of(runs: Sequence[RunMetrics]) -> RunMetrics:
    """The means of repeats; `rates` of all of them."""

    def spread(name: str) -> Spread:
        spreads: list[Spread] = [getattr(run, name) for run in runs]
        return Spread(
            **{
                field: float(np.mean([getattr(one, field) for one in spreads]))
                for field in Spread.model_fields
            }
        )

    return RunMetrics(
        tokens_per_s=float(np.mean([run.tokens_per_s for run in runs])),
        ttft=spread("ttft"),
        tpot=spread("tpot"),
        round=spread("round"),
        requests=sum(run.requests for run in runs),
        rates=tuple(chain.from_iterable(run.rates for run in runs)),
    )


def _spread(values: Sequence[float]) -> Spread:
    known = [value for value in values if not isnan(value)]
    if not known:
        return Spread(mean=nan, p50=nan, p95=nan)
    p50, p95 = np.percentile(known, (50, 95))
    return Spread(mean=float(np.mean(known)), p50=float(p50), p95=float(p95))
