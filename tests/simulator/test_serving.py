"""Costs of a live stack in a simulation: messages and requests take time; users' pauses and prompts are those given."""

from dataclasses import replace
from itertools import pairwise

import pytest

from loadgen.request import Record
from loadgen.run.drive import RunState
from shared.planning.profile import ServingCosts
from shared.scenario.scenario import PolicyConfig
from simulator.run import simulate
from simulator.simulation import Simulation
from tests.simulator.runs import scenario

FREE = ServingCosts(
    pass_scale=1.0,
    hop_ms=0.0,
    message_ms=0.0,
    device_ms=0.0,
    request_ms=0.0,
    probe_ms=50.0,
    fitted_on=("nothing",),
)
LAW = {
    "law": "packed",
    "beta_ms": 30.0,
    "per_token_ms": 2.0,
    "per_context_ms": 0.0,
    "memory_bytes": 8e9,
    "kv_bytes_per_token": 1.0,
}
ALONE = Simulation(
    scenario(
        core={"hop": "9 ms", "server": LAW},
        devices=[{"alpha": 0.8, "draft": "5 ms", "link": {"delay": "20 ms"}}],
        workload={"prompt": 16, "answer": 40, "think": "0.3..0.5 s"},
        feed=0,
        settle="0 s",
        measure="8 s",
    ),
    PolicyConfig(policy="fixed-k", k=3),
    seed=1,
    serving=FREE,
    prompts=((1, 2, 3), (4, 5, 6, 7)),
)


def records_of(simulation: Simulation) -> list[Record]:
    state = RunState()
    assert simulate(simulation, state).problems == []
    return state.records


def rounds_ms(records: list[Record]) -> list[float]:
    """Of drafts that were not cut at an answer's end."""
    return [
        1e3 * (now.at - before.at)
        for record in records[:-1]
        for before, now in list(pairwise(record.chunks))[:-3]
    ]


def test_a_round_takes_its_messages_times() -> None:
    """The device reads the verdict, the scheduler the draft and the verifier the batch."""
    free = rounds_ms(records_of(ALONE))
    costs = FREE.model_copy(update={"message_ms": 0.7, "device_ms": 3.0})
    costly = rounds_ms(records_of(replace(ALONE, serving=costs)))
    assert free == pytest.approx([2 * 20 + 3 * 5 + 30 + 4 * 2.0] * len(free), abs=1e-3)
    assert costly == pytest.approx([free[0] + 3.0 + 2 * 0.7] * len(costly), abs=1e-3)


def test_passes_take_longer_and_hops_differ() -> None:
    slow = rounds_ms(records_of(replace(ALONE, serving=FREE.model_copy(update={"pass_scale": 1.5}))))
    assert slow == pytest.approx([2 * 20 + 3 * 5 + 1.5 * 38] * len(slow), abs=1e-3)
    hops = rounds_ms(records_of(replace(ALONE, serving=FREE.model_copy(update={"hop_ms": 2.0}))))
    assert min(hops) >= 93 + 6 * 1.0 - 2.0  # half of each is fixed; the client's own hop may differ
    assert sum(hops) / len(hops) == pytest.approx(93 + 6 * 2.0, rel=0.03)


def test_a_request_takes_its_time_before_its_session_opens() -> None:
    free, costly = (
        records_of(replace(ALONE, serving=FREE.model_copy(update={"request_ms": ms}))) for ms in (0.0, 5.0)
    )
    gaps = [1e3 * (record.chunks[0].at - record.scheduled) for record in (free[1], costly[1])]
    assert gaps[1] - gaps[0] == pytest.approx(5.0, abs=1e-3)


def test_users_pause_and_have_the_given_prompts() -> None:
    records = records_of(ALONE)
    assert {record.request.prompt for record in records} == {(1, 2, 3), (4, 5, 6, 7)}
    pauses = [now.scheduled - before.ended for before, now in pairwise(records)]
    assert len(pauses) > 2
    assert all(0.3 <= pause <= 0.5 for pause in pauses)
    assert len({round(pause, 6) for pause in pauses}) == len(pauses)
