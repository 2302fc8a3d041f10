"""Metrics of a run, from records made by hand."""

from math import isnan

import pytest

from cli.validate.run_metrics import mean_of, metrics_of
from loadgen.metrics.summary import Window
from loadgen.request import ChatRequest, Chunk, Record


def record(due: float, at: list[float], tokens: int = 2) -> Record:
    """An answer whose pieces come at these times, `tokens` each."""
    chunks = [Chunk(when, "", (7,) * tokens, 0) for when in at]
    request = ChatRequest("r", "m", (1,), 64)
    return Record(request, due, due, chunks=chunks, ended=at[-1], completion_tokens=tokens * len(at))


def test_rates_first_tokens_and_rounds() -> None:
    records = [record(0.0, [0.5, 1.0, 1.5, 2.0]), record(1.0, [1.2, 1.4, 3.9])]
    seen = metrics_of(records, Window(0.0, 4.0))
    assert seen.tokens_per_s == pytest.approx(14 / 4)
    assert seen.rates == (pytest.approx(10 / 2), pytest.approx(4 / 2))  # the edge belongs to the later slice
    assert seen.ttft.p50 == pytest.approx(200.0)  # the other was under way when the interval began
    assert seen.requests == 1
    assert seen.round.p50 == pytest.approx(500.0)
    assert seen.round.mean == pytest.approx((500 * 3 + 200 + 2500) / 5)
    assert seen.tpot.mean == pytest.approx((1500 / 7 + 2700 / 5) / 2)


def test_a_failed_request_and_an_empty_run() -> None:
    failed = record(0.5, [1.0])
    failed.fail("cut", "gone")
    seen = metrics_of([failed], Window(0.0, 2.0))
    assert seen.tokens_per_s == 0.0
    assert isnan(seen.ttft.p50)


def test_means_of_repeats_keep_all_slices() -> None:
    one = metrics_of([record(0.1, [1.0, 2.0])], Window(0.0, 4.0))
    two = metrics_of([record(0.1, [1.0, 2.0], tokens=4)], Window(0.0, 4.0))
    both = mean_of([one, two])
    assert both.tokens_per_s == pytest.approx((one.tokens_per_s + two.tokens_per_s) / 2)
    assert (len(both.rates), both.requests) == (4, 2)
    assert both.round.p95 == one.round.p95
