"""What the simulator leaves out or does in one step changes no result."""

import pytest

from loadgen.request import Record
from loadgen.run.drive import RunState
from shared.broker.memory_link import MemoryConnection
from shared.scenario.scenario import PolicyConfig
from simulator.run import simulate
from simulator.scenario import SimulatedScenario
from simulator.simulation import Simulation

SCENARIO = SimulatedScenario.model_validate(
    {
        "about": "Users who differ, on slow and lossy links, some of whom leave in mid-answer.",
        "seed": 5,
        "devices": [
            {
                "count": 5,
                "alpha": "0.5..0.9",
                "draft": "3..12 ms",
                "link": {"delay": "2..20 ms", "jitter": "3 ms", "bandwidth": "200..900 kbit", "loss": 0.05},
            }
        ],
        "workload": {"prompt": 40, "answer": 60, "stay": "1..3 s", "away": "0..1 s"},
        "policies": ["fixed-k"],
        "faults": [{"at": "2 s", "kill": "device-1", "back": "1 s"}],
    }
)


def answers(policy: str, decode: bool = False) -> list[tuple[str, str, list[tuple[float, list[int], int]]]]:
    """Requests with their ends and the pieces of their answers."""
    state = RunState()
    simulation = Simulation(
        SCENARIO, PolicyConfig(policy=policy, k=3), 5, settle_s=0.5, measure_s=5.0, decode=decode
    )
    outcome = simulate(simulation, state)
    assert not outcome.problems
    assert len(state.records) > 5
    return [_answer(record) for record in state.records]


def _answer(record: Record) -> tuple[str, str, list[tuple[float, list[int], int]]]:
    pieces = [(round(chunk.at, 6), list(chunk.tokens), chunk.accepted) for chunk in record.chunks]
    return record.request.id, record.error, pieces


@pytest.mark.parametrize("policy", ["fixed-k", "outrider"])
def test_messages_that_are_not_decoded_lead_to_the_same_answers(policy: str) -> None:
    assert answers(policy) == answers(policy, decode=True)


def test_operations_in_one_step_lead_to_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    in_one_step = answers("fixed-k")
    monkeypatch.setattr("simulator.stack.SimulatedConnection", MemoryConnection)
    assert answers("fixed-k") == in_one_step
