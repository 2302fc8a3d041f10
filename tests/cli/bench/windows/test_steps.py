"""The steps: scenarios that can be simulated, with the change where it belongs."""

from cli.bench.windows.cells import RECORDINGS, SCENARIO
from cli.bench.windows.steps import FAR_MS, NEAR_MS, PHASE_S, steps_of
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
