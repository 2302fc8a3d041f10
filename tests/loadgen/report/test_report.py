"""The report: what it draws and leaves out, and that no text of a result becomes markup."""

import json
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from loadgen.report import charts, compared, sections
from loadgen.report.frame import policy_colours
from loadgen.report.markup import figure, tag
from loadgen.report.page import build, page
from loadgen.report.timeline import MAX_BARS, MAX_S, pipeline, slots, span_bars, spent, trace_events
from loadgen.report.timeline_chart import timeline
from loadgen.request import ChatRequest, Chunk, Record
from loadgen.results.result_file import write_result
from loadgen.results.result_reader import LoadedResult, ReportError, read_all
from loadgen.results.spans import Span
from tests.loadgen.made_up import DEVICES, ZERO_US, spans, write_run, write_sweep

HOSTILE = """</script><script>alert("1")</script><img src=x onerror='alert(2)'>"""


class Seen(HTMLParser):
    """Elements, addresses and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href") or name.startswith("on")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


def all_charts(runs: list[LoadedResult]) -> dict[str, Any]:
    drawn = [
        *(draw(runs) for draw in (charts.ttft, charts.e2e, charts.tpot, charts.itl, charts.throughput)),
        *(draw(runs) for draw in (charts.tau_by_kind, charts.by_kind, charts.by_position)),
        *(timeline(run) for run in runs),
        *compared.comparison(runs),
    ]
    return {chart.name: chart for chart in drawn if chart}


def span(**told: Any) -> Span:
    usual = {"name": "a", "session": "s", "epoch": 1, "round": 1, "step": 0, "offset_us": 0}
    return Span(**{**usual, **told}).checked()


# --- the page ---------------------------------------------------------------------------------------


def test_a_built_page_holds_all_it_needs(tmp_path: Path) -> None:
    out = tmp_path / "sub" / "report.html"
    build([write_run(tmp_path / "run.json", label="first try")], out)
    text = out.read_text(encoding="utf-8")
    seen = Seen(text)
    assert text.count("plotly.js v") == 1
    assert seen.addresses == []
    assert seen.tags.count("script") == 3
    assert "default-src &#x27;none&#x27;; script-src &#x27;sha256-" in text
    assert "first try" in seen.text
    assert json.loads((tmp_path / "sub" / "report.trace.json").read_text())["traceEvents"]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.json", label=HOSTILE, model=HOSTILE, policy=HOSTILE)
    found = json.loads(path.read_text())
    kind = f"\"quoted\" 'kind' {HOSTILE}"
    found["by_kind"] = {kind: found["by_kind"]["code"]}
    found |= {"valid": False, "problems": [HOSTILE], "failed_assertions": [HOSTILE], "git": HOSTILE}
    path.write_text(json.dumps(found))
    rows = path.with_suffix(".requests.jsonl")
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    lines[3] |= {"error": HOSTILE, "fault": "stream", "id": HOSTILE}
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spans_file = path.with_suffix(".spans.jsonl")
    told = [one | {"name": HOSTILE, "session": HOSTILE} for one in spans()]
    spans_file.write_text("".join(json.dumps(one) + "\n" for one in told))
    text = page(read_all([path]), "0", ["t.json"])
    seen = Seen(text)
    assert seen.tags.count("script") == 3
    assert "img" not in seen.tags
    assert seen.addresses == []
    assert seen.text.count(HOSTILE) >= 6
    held = text.partition('id="charts">')[2].partition("</script>")[0]
    assert "<" not in held  # whatever a label says, its script element does not end
    words = json.dumps(json.loads(held))
    assert "&lt;script&gt;" in words
    assert "<script" not in words
    assert "<img" not in words  # plotly reads a few tags in labels


@pytest.mark.parametrize(
    ("change", "told", "kind"),
    [
        ({"valid": False, "problems": ["nobody came"]}, "nobody came", "banner bad"),
        ({"failed_assertions": ["p99 < 5: it is 7"]}, "p99 < 5: it is 7", "banner bad"),
        ({"partial": True}, "ended early", "banner warn"),
    ],
)
def test_what_is_wrong_stands_at_the_top(
    tmp_path: Path, change: dict[str, Any], told: str, kind: str
) -> None:
    path = write_run(tmp_path / "run.json", with_spans=False)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    text = page(read_all([path]), "0")
    assert kind in text
    assert told in Seen(text).text


def test_markup_escapes_what_is_not_markup() -> None:
    assert tag("td", "<b>", tag("i", "x"), class_='"') == '<td class="&quot;">&lt;b&gt;<i>x</i></td>'
    assert [figure(None), figure(float("nan")), figure(0.1234), figure(12.34), figure(12345.6)] == [
        "–",
        "–",
        "0.12",
        "12.3",
        "12,346",
    ]


# --- charts -----------------------------------------------------------------------------------------


def test_every_chart_is_one_that_plotly_knows(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a.json", policy="outrider"),
        write_run(tmp_path / "b.json", with_spans=False, slower=2, policy="fixed-k"),
    ]
    drawn = all_charts(read_all(runs))
    drawn |= {chart.name: chart for chart in compared.sweep(read_all([write_sweep(tmp_path / "s.json")])[0])}
    assert len(drawn) == 18
    for chart in drawn.values():
        go.Figure({"data": chart.traces, "layout": chart.layout})  # raises for what it does not know


def test_charts_without_data_are_left_out(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run.json", with_spans=False, stack=False)
    found = json.loads(path.read_text())
    for kind in found["by_kind"].values():
        kind |= {"tau": None, "draft_efficiency": None}
    path.write_text(json.dumps(found))
    assert set(all_charts(read_all([path]))) == {"ttft", "e2e", "tpot", "itl", "throughput", "requests"}
    path.with_suffix(".requests.jsonl").unlink()
    run = read_all([path])[0]
    assert all_charts([run]) == {}
    text = Seen(page([run], "0")).text
    assert "run.requests.jsonl is not beside run.json" in text
    assert "Over time" not in text


def test_ttft_counts_from_both_and_only_what_is_counted(tmp_path: Path) -> None:
    run = read_all([write_run(tmp_path / "run.json")])[0]
    chart = charts.ttft([run])
    assert chart is not None
    scheduled, sent = chart.traces
    assert (scheduled["y"][0], scheduled["y"][-1]) == (0, 100)
    assert scheduled["x"][-1] - sent["x"][-1] == pytest.approx(1.0)  # all were sent 1 ms late
    assert len(run.counted) == run.result.figures["completed"]


def test_tokens_over_time_are_all_tokens(tmp_path: Path) -> None:
    run = read_all([write_run(tmp_path / "run.json")])[0]
    chart = charts.throughput([run])
    assert chart is not None
    tokens, flying = chart.traces
    width = tokens["x"][1] - tokens["x"][0]
    assert sum(tokens["y"]) * width == pytest.approx(sum(r.count for r in run.records if not r.error))
    assert max(flying["y"]) == pytest.approx(DEVICES)
    assert (chart.layout["shapes"][0]["x0"], chart.layout["shapes"][0]["x1"]) == (1.0, 5.0)


def test_several_results_are_compared(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / f"{policy}.json", with_spans=False, slower=slower, policy=policy)
        for policy, slower in (("fixed-k", 2.0), ("outrider", 1.0), ("new-one", 1.0))
    ]
    runs = read_all([*paths, paths[0]])
    assert [run.label for run in runs] == ["fixed-k", "outrider", "new-one", "fixed-k (2)"]
    throughput = next(chart for chart in compared.comparison(runs[:3]) if chart.name.endswith("throughput"))
    assert throughput.traces[0]["y"] == [run.result.figures["output_throughput"] for run in runs[:3]]
    assert len(set(throughput.traces[0]["marker"]["color"])) == 3
    assert policy_colours(["outrider"])["outrider"] == policy_colours(["x", "outrider"])["outrider"]
    assert compared.comparison(runs[:1]) == []


def test_a_sweep_marks_knees_and_crossovers(tmp_path: Path) -> None:
    sweep = read_all([write_sweep(tmp_path / "s.json")])[0]
    throughput = compared.sweep(sweep)[0]
    lines = {trace["name"]: trace for trace in throughput.traces}
    assert lines["outrider"]["x"] == [2, 4, 8, 16]
    assert lines["outrider"]["y"] == [48.5, 96.5, 192.5, 288.5]  # means of two repeats
    assert (lines["outrider, knee"]["x"], lines["outrider, knee"]["y"]) == ([12], [pytest.approx(240.5)])
    assert [shape["x0"] for shape in throughput.layout["shapes"]] == [5]
    assert throughput.caption.endswith("Dotted: policies change places (outrider × autoregressive at 5.00).")
    assert "outrider and autoregressive change places at 5.00 requests/s" in Seen(page([sweep], "0")).text


# --- timelines --------------------------------------------------------------------------------------


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


def test_the_pipeline_has_a_row_a_device_and_its_idle_time() -> None:
    seen = pipeline([Span(**one) for one in spans()], ZERO_US, 3.0)
    assert seen.rows == ("device pi-0", "device pi-1", "device pi-2", "scheduler sched", "verifier core")
    took = spent(seen)
    assert took["verifier core", "idle"] + took["verifier core", "verifying"] == pytest.approx(
        seen.end - seen.start
    )
    assert took["device pi-1", "drafting"] == pytest.approx(60 * 0.031)


def test_what_a_device_does_for_several_sessions_at_once_is_counted_once() -> None:
    drafts = [
        span(role="draft_worker", kind="draft", session=session, start_us=start, end_us=end)
        for session, start, end in (("s", 0, 400_000), ("t", 100_000, 300_000), ("u", 300_000, 600_000))
    ]
    seen = pipeline(
        [*drafts, span(role="draft_worker", kind="draft", start_us=900_000, end_us=1_000_000)], 0, 0.5
    )
    assert spent(seen)["device a", "drafting"] == pytest.approx(0.7)


def test_a_long_timeline_is_cut_around_its_middle() -> None:
    long = [
        span(role="draft_worker", kind="draft", start_us=at, end_us=at + 1900)
        for at in range(0, 60_000_000, 2000)
    ]
    seen = pipeline(long, 0, 30.0)
    assert len(seen.bars) <= MAX_BARS
    assert seen.start < 30 < seen.end <= seen.start + MAX_S
    assert pipeline(long[:3000], 0, 999.0).start == 0  # the middle of what counts is not among the spans


def test_requests_in_flight_have_a_slot_each() -> None:
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


def test_the_trace_is_one_that_perfetto_reads() -> None:
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


# --- files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[]", "not a result file"),
        ('{"schema": 2, "kind": "load"}', "schema 2"),
        ('{"schema": 1, "kind": "orchestration"}', "kind 'orchestration'"),
        ('{"schema": 1, "kind": "load", "window": {"start": "x", "end": 1}}', "window.start: "),
        ('{"schema": 1, "kind": "sweep", "points": [{}]}', r"points.0.figures: Field required"),
    ],
)
def test_what_is_no_result_is_named_in_a_line(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=rf"^\S*bad\.json: .*{why}[^\n]*$"):
        build([path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_missing_file_is_named_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"^\S*gone\.json: No such file or directory$"):
        build([tmp_path / "gone.json"], tmp_path / "report.html")
    with pytest.raises(ReportError, match="no result file"):
        build([], tmp_path / "report.html")


@pytest.mark.parametrize(
    ("name", "line", "why"),
    [
        ("run.requests.jsonl", '{"id": "a"}', "no 'max_tokens'"),
        ("run.requests.jsonl", "{", "Expecting property name"),
        ("run.spans.jsonl", '{"role": "verifier"}', "missing"),
        ("run.spans.jsonl", "[]", "mapping"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, name: str, line: str, why: str) -> None:
    path = write_run(tmp_path / "run.json")
    beside = tmp_path / name
    lines = beside.read_text().splitlines()
    beside.write_text("\n".join([lines[0], line, *lines[1:]]))
    with pytest.raises(ReportError, match=rf"^\S*{name}: line 2: .*{why}[^\n]*$"):
        read_all([path])


def test_figures_that_were_not_measured_are_dashes(tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    write_result(path, "load", {}, {"figures": {"tau": float("nan"), "output_throughput": None}})
    run = read_all([path])[0]
    assert 'class="card"' not in sections.cards(run)
    assert sections.latencies(run).count("<td>–</td>") == 6 * len(sections.LATENCIES)
