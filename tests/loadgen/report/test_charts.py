"""The report's charts: what they draw, and what they leave out."""

import json
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from loadgen.report import charts, comparison_charts
from loadgen.report.chart import policy_colours
from loadgen.report.page import page
from loadgen.report.timeline_chart import timeline
from loadgen.results.result_reader import LoadedResult, read_all
from tests.loadgen.report.html import Seen
from tests.loadgen.sample_results import DEVICES, write_run, write_sweep


def all_charts(runs: list[LoadedResult]) -> dict[str, Any]:
    drawn = [
        *(draw(runs) for draw in (charts.ttft, charts.e2e, charts.tpot, charts.itl, charts.throughput)),
        *(draw(runs) for draw in (charts.tau_by_kind, charts.by_kind, charts.by_position)),
        *(timeline(run) for run in runs),
        *comparison_charts.comparison(runs),
    ]
    return {chart.name: chart for chart in drawn if chart}


def test_plotly_accepts_every_chart(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a.json", policy="outrider"),
        write_run(tmp_path / "b.json", with_spans=False, slower=2, policy="fixed-k"),
    ]
    drawn = all_charts(read_all(runs))
    drawn |= {
        chart.name: chart
        for chart in comparison_charts.sweep(read_all([write_sweep(tmp_path / "s.json")])[0])
    }
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


def test_ttft_is_drawn_from_both_times_for_counted_requests(tmp_path: Path) -> None:
    run = read_all([write_run(tmp_path / "run.json")])[0]
    chart = charts.ttft([run])
    assert chart is not None
    scheduled, sent = chart.traces
    assert (scheduled["y"][0], scheduled["y"][-1]) == (0, 100)
    assert scheduled["x"][-1] - sent["x"][-1] == pytest.approx(1.0)  # all were sent 1 ms late
    assert len(run.counted) == run.result.metrics["completed"]


def test_tokens_over_time_add_up_to_all_tokens(tmp_path: Path) -> None:
    run = read_all([write_run(tmp_path / "run.json")])[0]
    chart = charts.throughput([run])
    assert chart is not None
    tokens, in_flight = chart.traces
    width = tokens["x"][1] - tokens["x"][0]
    assert sum(tokens["y"]) * width == pytest.approx(sum(r.count for r in run.records if not r.error))
    assert max(in_flight["y"]) == pytest.approx(DEVICES)
    assert (chart.layout["shapes"][0]["x0"], chart.layout["shapes"][0]["x1"]) == (1.0, 5.0)


def test_several_results_are_compared(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path / f"{policy}.json", with_spans=False, slower=slower, policy=policy)
        for policy, slower in (("fixed-k", 2.0), ("outrider", 1.0), ("new-one", 1.0))
    ]
    runs = read_all([*paths, paths[0]])
    assert [run.label for run in runs] == ["fixed-k", "outrider", "new-one", "fixed-k (2)"]
    throughput = next(
        chart for chart in comparison_charts.comparison(runs[:3]) if chart.name.endswith("throughput")
    )
    assert throughput.traces[0]["y"] == [run.result.metrics["output_throughput"] for run in runs[:3]]
    assert len(set(throughput.traces[0]["marker"]["color"])) == 3
    assert policy_colours(["outrider"])["outrider"] == policy_colours(["x", "outrider"])["outrider"]
    assert comparison_charts.comparison(runs[:1]) == []


def test_a_sweep_marks_knees_and_crossovers(tmp_path: Path) -> None:
    sweep = read_all([write_sweep(tmp_path / "s.json")])[0]
    throughput = comparison_charts.sweep(sweep)[0]
    lines = {trace["name"]: trace for trace in throughput.traces}
    assert lines["outrider"]["x"] == [2, 4, 8, 16]
    assert lines["outrider"]["y"] == [48.5, 96.5, 192.5, 288.5]  # means of two repeats
    assert (lines["outrider, knee"]["x"], lines["outrider, knee"]["y"]) == ([12], [pytest.approx(240.5)])
    assert [shape["x0"] for shape in throughput.layout["shapes"]] == [5]
    assert throughput.caption.endswith("Dotted: crossovers (outrider × autoregressive at 5.00).")
    assert "outrider and autoregressive cross over at 5.00 requests/s" in Seen(page([sweep], "0")).text
