"""Runs in which nothing goes on any more: they end and say who waits for whom."""

import re
from typing import Any

import pytest

from loadgen.run.drive import RunState
from simulator.load import plan_of
from simulator.run import MODEL, simulate
from simulator.scenario import SimulatedScenario
from simulator.simulation import Simulation
from simulator.stall import SILENCE_S, Stalled, silence_limit_s


def simulation(**more: Any) -> Simulation:
    data = {
        "about": "two devices",
        "devices": [{"count": 2, "alpha": 0.8, "draft": "5 ms"}],
        "policies": ["fixed-k"],
        "load": {"concurrency": 2, "requests": 1000, "prompt-tokens": 16, "answer-tokens": 16},
    }
    scenario = SimulatedScenario.model_validate({**data, **more})
    return Simulation(scenario, scenario.policies[0], 1, plan_of(scenario, 1, MODEL))


def stalled(**more: Any) -> str:
    with pytest.raises(Stalled) as raised:
        simulate(simulation(**more), RunState())
    return str(raised.value)


def test_requests_wait_for_a_dead_verifier() -> None:
    text = stalled(faults=[{"at": "2 s", "kill": "verifier-0"}])
    assert re.search(r"no request has got a token for 6\d s of virtual time, and 2 wait:", text)
    assert "verifier-0 is dead, and does not come back" in text
    assert (
        len(
            re.findall(
                r"r\d+, \d+ of 16 tokens, has waited 6\d s for a batch of verifier-0 with its prompt", text
            )
        )
        == 2
    )


def test_requests_wait_for_a_dead_scheduler() -> None:
    text = stalled(faults=[{"at": "2 s", "kill": "scheduler"}])
    assert "scheduler is dead, and does not come back" in text
    assert text.count("a scheduler: none knows it") == 2


def test_users_of_devices_wait_as_well() -> None:
    text = stalled(load=None, measure="500 s", faults=[{"at": "4 s", "kill": "verifier-0"}])
    assert "u0-0" in text
    assert "u1-0" in text


def test_a_long_fault_that_ends_is_no_stall() -> None:
    state = RunState()
    load = {"concurrency": 2, "requests": 40, "prompt-tokens": 16, "answer-tokens": 16}
    faults = [{"at": "1 s", "kill": "verifier-0", "back": "90 s"}]
    outcome = simulate(simulation(load=load, faults=faults), state)
    assert len(state.records) == 40
    assert max(record.ended - record.sent for record in state.records) > 90 > SILENCE_S
    assert outcome.body["valid"], outcome.problems


def test_silence_counts_beyond_faults_and_the_reading_of_prompts() -> None:
    faults = [{"at": "1 s", "kill": "verifier-0", "back": "7 s"}, {"at": "1 s", "broker_away": "9 s"}]
    plain = simulation()
    assert silence_limit_s(plain, 0) == SILENCE_S
    assert silence_limit_s(simulation(faults=faults), 0) == SILENCE_S + 9
    chunk = plain.scenario.core.prefill_tokens
    pass_s = plain.law.cost_ms([(chunk, plain.scenario.core.context)]) / 1e3
    assert silence_limit_s(plain, 10 * chunk) == pytest.approx(SILENCE_S + 10 * pass_s)
