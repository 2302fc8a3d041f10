"""The grid: its cells and rates, and a small one run whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.bench.windows.cells import RATE, Grid
from cli.command.errors import CommandError
from cli.simulate.options import SimulateOptions
from shared.scenario.scenario import ScenarioError

ROOT = Path(__file__).resolve().parents[4]
SCENARIO = ROOT / "scenarios" / "windows.yaml"
RECORDING = ROOT / "scenarios" / "recordings" / "smollm2.json"


def grid(controllers: tuple[str, ...] = ("static", "oracle")) -> Grid:
    return Grid(SCENARIO, [RECORDING], [5.0, 200.0], [0.3, 1.0], [1, 2], controllers, 10.0)


def test_every_controller_runs_in_every_cell_with_the_same_seeds(tmp_path: Path) -> None:
    runs = grid().runs(SimulateOptions([], out=tmp_path))
    assert len(runs) == len({run.run.result for run in runs}) == 2 * 2 * 2 * 2
    places = {
        name: [(run.cell, run.run.simulation.seed) for run in runs if run.controller == name]
        for name in ("static", "oracle")
    }
    assert places["static"] == places["oracle"]
    assert {run.run.simulation.policy.k for run in runs} == {4}


def test_a_rate_is_a_share_of_what_saturates_and_falls_with_the_round_trip(tmp_path: Path) -> None:
    runs = grid(("static",)).runs(SimulateOptions([], out=tmp_path))
    rates = {(run.cell.rtt_ms, run.cell.load): run.rate for run in runs}
    assert rates[5.0, 0.3] == pytest.approx(0.3 * rates[5.0, 1.0], abs=1e-3)
    assert rates[200.0, 1.0] < 0.7 * rates[5.0, 1.0]
    assert all(run.run.fields[RATE] == run.rate for run in runs)


def test_an_unknown_controller_is_refused_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"window controllers static, .* oracle"):
        grid(("statics",)).runs(SimulateOptions([], out=tmp_path))


def test_a_scenario_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("a: [b", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"bad\.yaml: not YAML"):
        Grid(file, [RECORDING], [5.0], [1.0], [1], ("static",)).runs(SimulateOptions([], out=tmp_path))


@pytest.mark.slow
def test_a_small_grid_has_a_result_and_a_picture_and_goes_on_where_it_was(tmp_path: Path) -> None:
    options = ["--quick", "--rtt", "20", "--load", "0.7", "--seeds", "1", "--controllers", "goodput,oracle"]
    options += [
        "--recording",
        str(RECORDING),
        "--runs",
        str(tmp_path / "runs"),
        "--out",
        str(tmp_path / "w.json"),
    ]
    command = [sys.executable, "-m", "cli.bench.windows", *options]
    for _ in range(2):
        done = subprocess.run(  # our own module
            command,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=True,
        )
    assert "3 of 3 runs are finished already" in done.stderr
    found = json.loads((tmp_path / "w.json").read_text(encoding="utf-8"))
    by_name = {row["controller"]: row for row in found["summary"]}
    assert by_name["static"]["speed"] == 1.0
    assert by_name["oracle"]["speed"] > 1.0
    assert (tmp_path / "w.png").stat().st_size > 1000
