"""Metrics on hand-made records."""

import math

import pytest

from loadgen.metrics.summary import Window, summarise
from loadgen.request import ChatRequest, Chunk, Record


def record(scheduled: float, sent: float, times: list[float], per_chunk: int = 2) -> Record:
    request = ChatRequest("a", "m", "p", 8)
    chunks = [Chunk(at, "x", tuple(range(per_chunk)), 1) for at in times]
    return Record(request, scheduled, sent, chunks, times[-1], "stop", "", 9, 6, 3)


def test_times_count_from_the_scheduled_arrival() -> None:
    summary = summarise([record(10.0, 12.0, [12.5, 13.5])])
    assert summary.ttft.median == pytest.approx(2500)
    assert summary.ttft_sent.median == pytest.approx(500)
    assert summary.dispatch.median == pytest.approx(2000)
    assert summary.tpot.median == pytest.approx(1000 / 3)
    assert summary.tokens_per_s == pytest.approx(4 / 3.5)


def test_tau_counts_the_corrected_or_bonus_token() -> None:
    summary = summarise([record(0, 0, [1.0, 2.0])])
    assert summary.tau == pytest.approx((6 + 3) / 3)
    assert summary.draft_efficiency == pytest.approx(6 / 9)


def test_errors_are_counted_but_have_no_latencies() -> None:
    bad = record(0, 0, [1.0])
    bad.error = "HTTP 503"
    summary = summarise([bad, record(0, 0, [1.0, 2.0])])
    assert (summary.requests, summary.errors, summary.tokens) == (2, 1, 4)


def test_nothing_measured_is_nan() -> None:
    bad = record(0, 0, [1.0])
    bad.error = "HTTP 503"
    assert math.isnan(summarise([bad]).ttft.median)


def test_only_the_window_counts() -> None:
    """A request every 10 ms, answered by two pieces of two tokens 5 and 10 ms later; counted from 0.095 to 0.295 s."""
    records = [record(i / 100, i / 100, [i / 100 + 0.005, i / 100 + 0.010]) for i in range(50)]
    summary = summarise(records, Window(0.0951, 0.2951))
    assert summary.requests == 20  # due at 0.10 to 0.29
    assert summary.duration_s == pytest.approx(0.2)
    assert summary.tokens == 2 * 40  # pieces of 0.100 to 0.295


class Incomparable(Record):
    """A record that must not be compared: to search for each of tens of thousands of errors takes minutes."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise AssertionError("records are compared with each other")


def test_errors_are_counted_by_kind_in_one_pass() -> None:
    request = ChatRequest("a", "m", "p", 8)
    bad = [Incomparable(request, 0.0, 0.0, fault=kind, error=kind) for kind in ("cut", "connect", "cut")]
    good = Incomparable(request, 0.0, 0.0, [Chunk(1.0, "x", (1,), 0)], 1.0, "stop")
    empty = Incomparable(request, 0.0, 0.0, ended=1.0, finish="stop")
    summary = summarise([good, *bad, empty])
    assert summary.faults == {"cut": 2, "connect": 1, "empty": 1}
    assert (summary.requests, summary.errors) == (5, 4)
