"""Small scenarios for tests, run whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadgen.request import Record
from loadgen.run.drive import RunState
from loadgen.run.outcome import RunOutcome
from shared.scenario.scenario import PolicyConfig
from simulator.load import load_plan
from simulator.run import MODEL, simulate
from simulator.scenario import SimulatedScenario, read_simulated
from simulator.simulation import Simulation

SCENARIOS: Final = Path(__file__).resolve().parents[2] / "scenarios"


@dataclass(frozen=True, slots=True)
class Simulated:
    """A run's outcome and its requests, in the order of their ids."""

    outcome: RunOutcome
    records: list[Record]


def scenario(**fields: Any) -> SimulatedScenario:
    """A scenario with these fields; two devices, ten seconds and policy fixed-k unless they say otherwise."""
    usual: dict[str, Any] = {
        "about": "A test's.",
        "devices": [{"count": 2, "alpha": 0.8, "draft": "5 ms", "link": {"delay": "20 ms"}}],
        "policies": ["fixed-k"],
        "settle": "1 s",
        "measure": "10 s",
    }
    return SimulatedScenario.model_validate(usual | fields)


def shipped(name: str) -> SimulatedScenario:
    """A scenario of the repository."""
    return read_simulated(SCENARIOS / f"{name}.yaml")


def run(
    what: SimulatedScenario, policy: str = "fixed-k", k: int = 4, batches: int = 2, window: str = ""
) -> Simulated:
    """Run a scenario under a policy. The outcome must be valid."""
    plan = load_plan(what.load, what.seed, MODEL) if what.load is not None else None
    state = RunState()
    config = PolicyConfig(policy=policy, k=k, batches=batches, window=window)
    outcome = simulate(Simulation(what, config, what.seed, plan), state)
    assert outcome.problems == [], outcome.problems
    return Simulated(outcome, sorted(state.records, key=lambda record: record.request.id))
