"""A cell's charts and table, from a history as runs write it."""

import json
from pathlib import Path

import plotly.graph_objects as go
import pytest

from loadgen.metrics.cell_history import CellHistory
from loadgen.report import cells
from loadgen.report.page import page
from loadgen.results.result_reader import CellResult, LoadedResult, ReportError, read_all
from shared.cells.cell import Cell
from tests.loadgen.report.html import Seen
from tests.loadgen.sample_results import write_run


def written(path: Path, devices: int = 3, given: bool = True) -> LoadedResult:
    """A run with a cell of 80 kbit a second whose devices sent 1, 2, … kB and got half of that."""
    cell = Cell(80_000.0, "shares" if given else "contention")
    for n in range(devices):
        cell.join(f"device-{n}", 1.0, 0.0)
    history = CellHistory(cell, 0.0)
    for n in range(devices):
        cell.send(f"device-{n}", "up", 8000 * (n + 1), 0.0)
        cell.send(f"device-{n}", "down", 4000 * (n + 1), 0.0)
    history.look(1.0)
    if given:
        cell.give({"device-0": 40_000.0}, 1.0)
    history.look(10.0)
    write_run(path, with_spans=False)
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "cells": {"c<1>": history.body()}}))
    return read_all([path])[0]


def of(run: LoadedResult) -> CellResult:
    return run.result.cells["c<1>"]


def test_the_charts_show_rates_and_shares_by_step(tmp_path: Path) -> None:
    cell = of(written(tmp_path / "run.json"))
    drawn = [cells.rates("c", cell), cells.shares("c", cell)]
    for chart in drawn:
        assert chart is not None
        go.Figure({"data": chart.traces, "layout": chart.layout})
    rates, shares = (chart.traces for chart in drawn if chart)
    assert [trace["name"] for trace in rates] == ["device-0", "device-1", "device-2"]
    carried = sum(y * s for trace in rates for y, s in zip(trace["y"], (1.0, 9.0), strict=True))
    assert carried == pytest.approx((8 + 4) * (1 + 2 + 3))  # kbit
    solid, dotted = shares[:2]
    assert (solid["x"], dotted["line"]["dash"]) == ([1.0, 10.0], "dot")
    assert dotted["y"] == pytest.approx([100 / 3, 50], abs=1e-3)


def test_the_table_sums_up_and_says_how_fair_it_was(tmp_path: Path) -> None:
    table = cells.members(of(written(tmp_path / "run.json")))
    assert [row[:3] for row in table.rows] == [
        ["device-0", "1.00", "0.50"],
        ["device-1", "2.00", "1.00"],
        ["device-2", "3.00", "1.50"],
    ]
    assert [row[5] for row in table.rows] == ["50.0", "25.0", "25.0"]
    assert table.before == "Given shares; 9.00 % of the band was in use."
    assert "0.86 for bytes" in table.after  # (1 + 2 + 3)² / (3 · 14)


def test_of_many_devices_those_with_the_most_bytes_are_drawn(tmp_path: Path) -> None:
    chart = cells.rates("c", of(written(tmp_path / "run.json", devices=12, given=False)))
    assert chart is not None
    assert [trace["name"] for trace in chart.traces] == [f"device-{n}" for n in range(4, 12)]
    assert chart.caption.endswith("The 8 devices of 12 with the most bytes.")
    table = cells.members(of(written(tmp_path / "run.json", given=False)))
    assert {row[5] for row in table.rows} == {"–"}


def test_the_page_has_a_section_for_each_cell_and_none_without(tmp_path: Path) -> None:
    run = written(tmp_path / "run.json")
    text = Seen(page([run], "0")).text
    assert "Cell c<1>, run" in text
    assert "Jain's index over the devices" in text
    assert (
        "Jain's index over the devices"
        not in Seen(page(read_all([write_run(tmp_path / "x.json")]), "0")).text
    )


def test_a_cell_that_is_not_whole_is_an_error(tmp_path: Path) -> None:
    written(path := tmp_path / "run.json")
    found = json.loads(path.read_text())
    del found["cells"]["c<1>"]["devices"][0]["up_bytes"]
    path.write_text(json.dumps(found))
    with pytest.raises(ReportError, match=r"cells\.c<1>\.devices\.0\.up_bytes: "):
        read_all([path])
