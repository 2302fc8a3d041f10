"""A simulation in an order drawn from a seed: as right as in asyncio's, the same for the same seed."""

from pathlib import Path
from typing import Any

import pytest

from loadgen.run.drive import RunState
from shared.scenario.scenario import PolicyConfig
from simulator.run import simulate
from simulator.scenario import read_simulated
from simulator.simulation import Simulation

SCENARIO = read_simulated(Path(__file__).resolve().parents[2] / "scenarios" / "jittery.yaml")


def simulated(order: int | None) -> dict[str, Any]:
    policy = PolicyConfig(policy="cyclic-k", k=3)
    simulation = Simulation(SCENARIO, policy, seed=1, settle_s=1.0, measure_s=4.0, order=order)
    outcome = simulate(simulation, RunState())
    assert not outcome.problems
    return dict(outcome.metrics)


def test_an_order_repeats_and_changes_little() -> None:
    neutral, first, again, second = (simulated(order) for order in (None, 1, 1, 2))
    assert first == again
    assert first != second
    assert first["total_output_tokens"] == pytest.approx(neutral["total_output_tokens"], rel=0.05)
