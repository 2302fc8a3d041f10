"""The steps: scenarios that can be simulated, with the change where it belongs."""

from pathlib import Path

import numpy as np
import pytest

from cli.bench.windows.cells import RECORDINGS, SCENARIO
from cli.bench.windows.picture import draw_steps
from cli.bench.windows.steps import FAR_MS, NEAR_MS, PHASE_S, planned, rows_of, shares_of, steps_of
from cli.simulate.options import SimulateOptions
from loadgen.request import ChatRequest, Chunk, Record
from loadgen.results.rows import write_rows
from loadgen.run.runner import ClosedLoop
from shared.scenario.scenario import checked
from simulator.load import load_plan
from simulator.scenario import Delay, SimulatedScenario


def test_links_are_far_for_a_phase_and_the_load_is_high_for_one() -> None:
    rtt, load = (
        checked(SimulatedScenario, step.data, step.name)
        for step in steps_of(SCENARIO, RECORDINGS / "smollm2.json")
    )
    delays = [(fault.at.low, fault.delay.low) for fault in rtt.faults if isinstance(fault, Delay)]
    assert delays == [(PHASE_S, FAR_MS / 2), (2 * PHASE_S, NEAR_MS / 2)]
    assert load.faults == ()
    plan = load_plan(load.load or {}, 1, "modelled")
    assert not isinstance(plan.load, ClosedLoop)
    due = [planned.at for planned in plan.load]
    counts = [sum(n * PHASE_S <= at < (n + 1) * PHASE_S for at in due) for n in range(3)]
    assert counts[1] > 2 * max(counts[0], counts[2]) > 0


def test_a_controller_that_is_slow_to_adapt_is_said_to_be(tmp_path: Path) -> None:
    """Results of runs whose speeds are known: the static one halves its speed for ten seconds after the step."""
    step, _ = steps_of(SCENARIO, RECORDINGS / "smollm2.json")
    runs = planned(step, ["static", "oracle"], [1, 2], SimulateOptions([], out=tmp_path))
    assert len(runs) == 4
    for run in runs:
        gaps = (
            [0.2] * 200
            + ([0.4] * 25 if run.simulation.policy.window == "static" else [0.2] * 50)
            + [0.2] * 350
        )
        chunks = [Chunk(at, "", (0, 0), 0) for at in [0.0, *np.cumsum(gaps).tolist()]]
        record = Record(ChatRequest("r", "", (), 2000), 0.0, 0.0, chunks, chunks[-1].at)
        run.result.parent.mkdir(parents=True, exist_ok=True)
        write_rows(run.result.with_suffix(".requests.jsonl"), [record], 0.0)
    times, shares = shares_of(runs)
    static, oracle = rows_of("rtt", times, shares)
    assert (oracle["after_share"], oracle["after_seconds"]) == (pytest.approx(1.0), 0.0)
    assert static["after_share"] == pytest.approx(1.0)
    assert 10.0 < static["after_seconds"] < 14.5
    assert static["undone_seconds"] == 0.0
    draw_steps(tmp_path / "steps.png", {"rtt": (times, shares)}, np.array([PHASE_S]))
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG")
