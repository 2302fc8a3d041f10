"""Runs of the command: alone, in processes of their own, swept, resumed and interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from cli.simulate.options import SimulateOptions
from cli.simulate.planned_run import plan_runs
from cli.simulate.pool import groups_of
from cli.simulate.sweep_field import SweepField
from loadgen.report.page import build
from loadgen.results.comparison import compare
from loadgen.results.result_reader import read_all
from tests.cli.simulate.scenarios import LOADED, PLAIN, written
from tests.loadgen import sample_results

ROOT = Path(__file__).resolve().parents[3]


def simulated(folder: Path, *options: str, text: str = LOADED) -> Result:
    """`outrider simulate`, in this process unless the options have it otherwise."""
    arguments = ["simulate", str(written(folder, text)), "--out", str(folder / "out"), *options]
    return CliRunner(env={"PYTHONPATH": str(ROOT)}).invoke(app, arguments)


def result_of(folder: Path, *parts: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((folder / "out" / Path(*parts)).read_text(encoding="utf-8"))
    return body


def test_a_run_has_a_table_and_results_that_the_report_draws(tmp_path: Path) -> None:
    done = simulated(tmp_path, "--only", "fixed-k:2", "--trace")
    assert done.exit_code == 0, done.output
    assert "fixed-k k=2" in done.stdout
    found = result_of(tmp_path, "small", "fixed-k-k=2.json")
    assert (found["valid"], found["class"], found["config"]["simulated"]) == (True, "stable", True)
    page = tmp_path / "report.html"
    build([tmp_path / "out" / "small" / "fixed-k-k=2.json"], page)
    text = page.read_text(encoding="utf-8")
    assert "simulated" in text
    assert "stable" in text
    events = json.loads(page.with_suffix(".trace.json").read_text(encoding="utf-8"))["traceEvents"]
    assert {"drafting", "verifying 1"} <= {event["name"] for event in events}


def test_a_live_result_is_compared_with_a_simulated_one(tmp_path: Path) -> None:
    live = sample_results.write_run(tmp_path / "live.json")
    assert simulated(tmp_path, "--only", "fixed-k:2").exit_code == 0
    first, second = read_all([live, tmp_path / "out" / "small" / "fixed-k-k=2.json"])
    rows = {row.metric: row for row in compare(first, second)}
    figures = result_of(tmp_path, "small", "fixed-k-k=2.json")["figures"]
    assert rows["TTFT (ms), median"].second == pytest.approx(
        figures["median_ttft_scheduled_ms"], rel=1e-4
    )  # rows are in microseconds
    assert rows["tokens/s"].ratio > 0


def test_several_runs_at_a_time_have_the_bytes_of_single_ones(tmp_path: Path) -> None:
    assert simulated(tmp_path, "--jobs", "1").exit_code == 0
    names = ("fixed-k-k=2.json", "fixed-k-k=2.requests.jsonl", "greedy-batch.json")
    alone = [(tmp_path / "out" / "small" / name).read_bytes() for name in names]
    done = simulated(tmp_path, "--jobs", "2")
    assert done.exit_code == 0, done.output
    assert [(tmp_path / "out" / "small" / name).read_bytes() for name in names] == alone


def test_an_assertion_that_fails_is_an_error_and_the_result_stays(tmp_path: Path) -> None:
    text = LOADED.replace("rate: 4", "rate: 4, assert: output_throughput>1000000")
    done = simulated(tmp_path, "--only", "fixed-k:2", text=text)
    assert done.exit_code == 1
    assert "small fixed-k k=2: output_throughput > 1e+06: it is" in done.stderr
    assert result_of(tmp_path, "small", "fixed-k-k=2.json")["valid"]


@pytest.mark.slow
def test_a_sweep_is_resumed_and_other_inputs_run_again(tmp_path: Path) -> None:
    done = simulated(tmp_path, "--only", "fixed-k:2", "--sweep", "load.rate=2,4")
    assert done.exit_code == 0, done.output
    cells = [tmp_path / "out" / "small" / f"load.rate={rate}" / "fixed-k-k=2.json" for rate in (2, 4)]
    before = [cell.stat().st_mtime_ns for cell in cells]
    again = simulated(tmp_path, "--only", "fixed-k:2", "--sweep", "load.rate=2,4,6")
    assert again.exit_code == 0, again.output
    assert "2 of 3 runs are finished already" in again.stderr
    assert [cell.stat().st_mtime_ns for cell in cells] == before
    other = simulated(tmp_path, "--only", "fixed-k:2", "--sweep", "load.rate=2", "--seed", "5")
    assert other.exit_code == 0, other.output
    assert cells[0].stat().st_mtime_ns != before[0]
    assert cells[1].stat().st_mtime_ns == before[1]


@pytest.mark.slow
def test_a_sweep_has_a_result_that_the_report_draws_and_a_picture(tmp_path: Path) -> None:
    done = simulated(tmp_path, "--only", "fixed-k:2", "--sweep", "load.rate=2,4", "--sweep", "seed=1,2")
    assert done.exit_code == 0, done.output
    found = result_of(tmp_path, "small", "sweep.json")
    assert [(point["rate"], point["repeat"]) for point in found["points"]] == [(2, 1), (2, 2), (4, 1), (4, 2)]
    assert set(found["knees"]) == {"fixed-k k=2"}
    assert (tmp_path / "out" / "small" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    page = tmp_path / "sweep.html"
    build([tmp_path / "out" / "small" / "sweep.json"], page)
    assert "requests/s" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [(1, [[0, 1], [2, 3]]), (2, [[0, 1], [2, 3]]), (3, [[0], [1], [2], [3]])],
)
def test_a_process_runs_all_policies_of_a_scenario_if_none_is_left_idle(
    tmp_path: Path, jobs: int, expected: list[list[int]]
) -> None:
    options = SimulateOptions([written(tmp_path, LOADED)], out=tmp_path / "out")
    runs = plan_runs(options, [SweepField("load.rate", [1, 2])])  # of two policies
    assert [[runs.index(run) for run in group] for group in groups_of(runs, jobs)] == expected


def test_a_run_that_fails_leaves_the_others(tmp_path: Path) -> None:
    text = f"{LOADED}faults: [{{at: 1 s, kill: verifier-0}}]\n"
    done = simulated(tmp_path, "--only", "fixed-k:2", "--sweep", "faults.0.at=1 s,500 s", text=text)
    assert done.exit_code == 1
    assert "small faults.0.at=1 s fixed-k k=2: no request has got a token for 6" in done.stderr
    assert "verifier-0 is dead" in done.stderr
    assert len(result_of(tmp_path, "small", "sweep.json")["points"]) == 1
    assert result_of(tmp_path, "small", "sweep.json")["partial"]


@pytest.mark.slow
def test_ctrl_c_keeps_finished_runs_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN + "settle: 0.1 s\n")
    # The second run would take hours.
    command = ("simulate", str(path), "--only", "fixed-k:2", "--sweep", "measure=1 s,80000 s", "--jobs", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *command, "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    done = tmp_path / "out" / "small" / "measure=1s" / "fixed-k-k=2.inputs"
    while not done.is_file() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "1 of 2 runs are done" in err
    assert "the same command goes on with the others" in err
    assert "fixed-k" in out
    assert not (tmp_path / "out" / "small" / "measure=80000s").exists()


@pytest.mark.slow
def test_ctrl_c_within_a_run_ends_it(tmp_path: Path) -> None:
    path = written(tmp_path, PLAIN + "measure: 80000 s\n")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cli.main",
            "simulate",
            str(path),
            "--jobs",
            "1",
            "--out",
            str(tmp_path / "out"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert process.stderr is not None
    assert process.stderr.readline()  # it runs: the first line of its progress
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "stopped: 0 of 2 runs are done" in err
    assert not (tmp_path / "out" / "small").exists()
