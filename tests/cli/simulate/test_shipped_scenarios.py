"""Every shipped scenario runs: its first and its last policy for a few virtual seconds, with every text right."""

from pathlib import Path

import pytest

from cli.simulate.options import SimulateOptions
from cli.simulate.planned_run import plan_runs
from cli.simulate.sweep_field import parse_sweep
from loadgen.run.drive import RunState
from shared.scenario.scenario import read_fields
from simulator.run import simulate

FILES = sorted((Path(__file__).resolve().parents[3] / "scenarios").glob("*.yaml"))
TOO_LARGE = ("thousand", "tenthousand")  # minutes; `python -m cli.bench.simulator` runs them
SHORT_LOAD = ["load.duration=8", "load.warmup=0", "load.cooldown=0"]


@pytest.mark.slow
@pytest.mark.parametrize("file", [f for f in FILES if f.stem not in TOO_LARGE], ids=lambda file: file.stem)
def test_it_runs(file: Path, tmp_path: Path) -> None:
    has_load = "load" in read_fields(file)
    settle_s, measure_s = (0.0, 0.0) if has_load else (0.5, 1.0)
    options = SimulateOptions([file], settle_s=settle_s, measure_s=measure_s, out=tmp_path)
    runs = plan_runs(options, parse_sweep(SHORT_LOAD if has_load else []))
    for run in (runs[0], runs[-1]):
        state = RunState()
        outcome = simulate(run.simulation, state)
        assert not outcome.problems
        assert sum(record.completion_tokens for record in state.records) > 0
