"""Timelines of runs, as bars and as a trace for Perfetto."""

import json
from itertools import pairwise
from typing import Any

import pytest

from loadgen.report.timeline import MAX_BARS, MAX_S, pipeline, slots, span_bars, time_by_kind, trace_events
from loadgen.request import ChatRequest, Chunk, Record
from loadgen.results.spans import Span
from tests.loadgen.sample_results import DEVICES, ZERO_US, spans


def span(**fields: Any) -> Span:
    usual = {"name": "a", "session": "s", "epoch": 1, "round": 1, "step": 0, "offset_us": 0}
    return Span(**{**usual, **fields}).checked()


def test_spans_are_bars_on_the_clock_of_the_run() -> None:
    draft = span(role="draft_worker", kind="draft", start_us=1_000_000, end_us=1_500_000, offset_us=250_000)
    rows = [
        span(role="verifier", kind="verify", start_us=2_000_000, end_us=2_100_000, step=7, session=session)
        for session in ("s", "t")
    ]
    alone, step = span_bars([draft, *rows], 250_000)
    assert (alone.row, alone.kind, alone.start, alone.end) == ("device a", "drafting", 1.0, 1.5)
    assert (step.row, step.kind, step.start, step.step) == ("verifier a", "verifying", 1.75, 7)
    assert step.sessions == (("s", 1), ("t", 1))


def test_the_pipeline_has_a_row_per_device_and_idle_time() -> None:
    seen = pipeline([Span(**one) for one in spans()], ZERO_US, 3.0)
    assert seen.rows == ("device pi-0", "device pi-1", "device pi-2", "scheduler sched", "verifier core")
    took = time_by_kind(seen)
    assert took["verifier core", "idle"] + took["verifier core", "verifying"] == pytest.approx(
        seen.end - seen.start
    )
    assert took["device pi-1", "drafting"] == pytest.approx(60 * 0.031)


def test_overlapping_drafts_of_a_device_count_once() -> None:
    drafts = [
        span(role="draft_worker", kind="draft", session=session, start_us=start, end_us=end)
        for session, start, end in (("s", 0, 400_000), ("t", 100_000, 300_000), ("u", 300_000, 600_000))
    ]
    seen = pipeline(
        [*drafts, span(role="draft_worker", kind="draft", start_us=900_000, end_us=1_000_000)], 0, 0.5
    )
    assert time_by_kind(seen)["device a", "drafting"] == pytest.approx(0.7)


def test_a_long_timeline_is_cut_around_its_middle() -> None:
    long = [
        span(role="draft_worker", kind="draft", start_us=at, end_us=at + 1900)
        for at in range(0, 60_000_000, 2000)
    ]
    seen = pipeline(long, 0, 30.0)
    assert len(seen.bars) <= MAX_BARS
    assert seen.start < 30 < seen.end <= seen.start + MAX_S
    assert pipeline(long[:3000], 0, 999.0).start == 0  # the middle of what counts is not among the spans


def test_every_request_in_flight_has_a_slot() -> None:
    def record(start: float, end: float, error: str = "") -> Record:
        chunks = [] if error else [Chunk(start + 0.25, "", (), 0)]
        return Record(ChatRequest(f"r{start}", "", "", 1), start, start, chunks, end, "stop", error)

    seen = slots([record(0, 2), record(1, 3), record(2.5, 4, "cut off")], 2.0)
    assert seen.rows == ("slot 1", "slot 2")
    assert [(bar.row, bar.kind) for bar in seen.bars] == [
        ("slot 1", "before the first token"),
        ("slot 1", "streaming"),
        ("slot 2", "before the first token"),
        ("slot 2", "streaming"),
        ("slot 1", "failed"),
    ]


def test_the_trace_has_the_format_of_perfetto() -> None:
    trace = json.loads(json.dumps(trace_events([Span(**one) for one in spans()], ZERO_US)))
    events = trace["traceEvents"]
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    slices = [e for e in events if e["ph"] == "X"]
    assert sorted(processes.values()) == [
        *(f"device pi-{n}" for n in range(DEVICES)),
        "scheduler sched",
        "verifier core",
    ]
    assert {(e["pid"], e["tid"]) for e in slices} == set(threads)
    assert all(isinstance(e["ts"], int) and e["dur"] >= 0 for e in slices)
    steps = [e for e in slices if e["name"] == f"verifying {DEVICES}"]
    assert len(steps) == 60
    assert len(steps[0]["args"]["sessions"]) == DEVICES
    # Slices of a thread follow each other: what overlaps has threads beside each other.
    for place in threads:
        times = sorted((e["ts"], e["ts"] + e["dur"]) for e in slices if (e["pid"], e["tid"]) == place)
        assert all(end <= start for (_, end), (start, _) in pairwise(times))
    # Every draft has an arrow to the step that it was verified in.
    assert sum(e["ph"] == "s" for e in events) == sum(e["ph"] == "f" for e in events) == 60 * DEVICES
