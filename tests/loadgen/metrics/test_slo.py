"""Limits on single requests and on a run's metrics."""

import pytest

from loadgen.metrics.slo import SloError, good, parse_assertions, parse_goodput
from loadgen.request import ChatRequest, Chunk, Record


def record(times: list[float], error: str = "") -> Record:
    """A request due at 0 and sent at 0.5."""
    chunks = [Chunk(at, "x", (1,), 0) for at in times]
    return Record(ChatRequest("a", "m", "p", 8), 0.0, 0.5, chunks, times[-1], "stop", error)


def test_a_good_request_meets_every_limit_from_its_scheduled_arrival() -> None:
    limits = parse_goodput("ttft:1000, tpot:50")
    assert good(record([0.9, 0.95]), limits)
    assert not good(record([1.1, 1.15]), limits)  # 600 ms from the send
    assert not good(record([0.9, 1.0]), limits)
    assert good(record([0.9]), limits)  # one token has no time per further token
    assert not good(record([0.1], "HTTP 503"), limits)


@pytest.mark.parametrize("text", ["ttft", "ttft:", "ttft:x", "itl:5", "ttft:-1"])
def test_an_invalid_limit_is_refused(text: str) -> None:
    with pytest.raises(SloError, match="give ttft:MS"):
        parse_goodput(text)


def test_assertions_on_metrics() -> None:
    low, high = parse_assertions(["p99_ttft_scheduled_ms<500", "output_throughput >= 10"])
    metrics = {"p99_ttft_scheduled_ms": 612.3, "output_throughput": 10}
    assert low.fails(metrics) == "p99_ttft_scheduled_ms < 500: it is 612.3"
    assert high.fails(metrics) == ""
    with pytest.raises(SloError, match="unknown metric 'p99_ttft_scheduled_ms'; known: x"):
        low.check({"x": 1.0, "y": "text"})
    low.check(metrics)
    assert low.fails({}) == "p99_ttft_scheduled_ms < 500: it was not measured"


def test_an_assertion_on_an_unmeasured_metric_fails() -> None:
    (assertion,) = parse_assertions(["tau>1"])
    assert "nan" in assertion.fails({"tau": float("nan")})


@pytest.mark.parametrize("text", ["", "ttft", "ttft=5", "ttft<x", "<5"])
def test_an_invalid_assertion_is_refused(text: str) -> None:
    with pytest.raises(SloError, match="METRIC<NUMBER"):
        parse_assertions([text])
