"""The stages of a pipeline: their rows in a timeline, their table, their tracks for Perfetto."""

from typing import Any

from loadgen.report.stage_table import stages
from loadgen.report.timeline import is_stage, pipeline, span_bars, trace_events
from loadgen.report.timeline_chart import DEAD, _parts
from loadgen.results.spans import Span


def span(name: str, kind: str, start_ms: float, end_ms: float, **fields: Any) -> Span:
    usual = {"role": "verifier", "session": "", "epoch": 0, "round": 0, "step": 1, "offset_us": 0}
    times: dict[str, Any] = {"start_us": round(1e3 * start_ms), "end_us": round(1e3 * end_ms)}
    return Span(name=name, kind=kind, **times, **{**usual, **fields}).checked()


SPANS = [
    span("v", "verify", 0, 100, session="a", round=3),
    span("v-rank-0", "draft", 0, 10, session="a"),
    span("v-stage-1", "verify", 0, 40, session="a", round=4, epoch=1),
    span("v-stage-1", "verify", 0, 40, session="b", round=2, epoch=2),
    span("v-stage-1", "idle", 40, 60),
    span("v-stage-1", "verify", 60, 100, session="a", round=2, step=2),
    span("v-stage-10", "verify", 20, 30, session="a", round=1),
    span("v-stage-2", "verify", 10, 20, session="a", round=1),
]


def test_stages_follow_their_verifier_in_the_order_of_their_numbers() -> None:
    rows = pipeline(SPANS, 0, 0.05).rows
    assert rows == tuple(f"verifier v{part}" for part in ("", "-rank-0", "-stage-1", "-stage-2", "-stage-10"))
    assert [is_stage(row) for row in rows] == [False, False, True, True, True]


def test_a_stages_bar_has_its_rows_and_its_end_is_the_share_of_the_dead() -> None:
    bar = next(bar for bar in span_bars(SPANS, 0) if bar.row == "verifier v-stage-1")
    assert (bar.rows, bar.dead, bar.sessions) == (6, 3, (("a", 4), ("b", 2)))
    alive, dead = _parts(bar)
    assert (alive.start, alive.end, dead.start, dead.end, dead.kind) == (0.0, 0.02, 0.02, 0.04, DEAD)
    whole = next(bar for bar in span_bars(SPANS, 0) if bar.row == "verifier v")
    assert (whole.rows, _parts(whole)) == (0, (whole,))


def test_the_table_says_how_busy_a_stage_is_and_what_for() -> None:
    table = stages(SPANS)
    assert table is not None
    first = dict(zip(table.headings, table.rows[0], strict=True))
    assert first == {
        "stage": "verifier v-stage-1",
        "busy %": "80.0",
        "pieces": "2",
        "rows a piece": "4.00",
        "users a piece": "1.50",
        "dead rows %": "37.5",
        "gaps": "1",
        "gap ms": "20.0",
    }
    assert [row[0] for row in table.rows[1:]] == ["verifier v-stage-2", "verifier v-stage-10"]
    assert stages(SPANS[:2]) is None


def test_a_stage_is_a_track_with_a_counter_of_its_rows() -> None:
    events = trace_events(SPANS, 0)["traceEvents"]
    names = [event["name"] for event in events if event["ph"] == "X"]
    assert "6 rows, 3 dead" in names
    assert "2 rows" in names
    counters = [event["args"] for event in events if event["ph"] == "C"]
    assert {"alive": 3, "dead": 3} in counters
    assert not [event for event in events if event["ph"] == "s"]  # rank 0's drafts have no arrows
