"""Cells in simulations: what devices of one band wait for each other, and that every byte passes through it."""

from typing import Any

import pytest

from loadgen.run.drive import RunState
from shared.scenario.scenario import PolicyConfig
from simulator.run import simulate
from simulator.scenario import SimulatedScenario
from simulator.simulation import Simulation
from tests.simulator.runs import Simulated, run, scenario

LINK = {"delay": "20 ms"}


def in_cell(
    count: int, cell: dict[str, Any], device: dict[str, Any] | None = None, **fields: Any
) -> SimulatedScenario:
    """Devices in one cell, each with a user, whose pass takes the same time whatever is in it."""
    group = {"count": count, "alpha": 0.8, "draft": "5 ms", "link": LINK, "cell": "c1", **(device or {})}
    server = {"law": "packed", "beta_ms": 10, "per_token_ms": 0, "per_context_ms": 0}
    usual = {
        "workload": {"prompt": 16, "answer": 400},
        "core": {"server": {**server, "memory_bytes": 8e9, "kv_bytes_per_token": 1}},
    }
    return scenario(devices=[group], cells=[{"id": "c1", **cell}], **{**usual, **fields})


def pieces(found: Simulated) -> list[float]:
    return [chunk.at for record in found.records for chunk in record.chunks]


def test_alone_in_its_cell_a_device_has_a_link_of_that_rate() -> None:
    alone = run(in_cell(1, {"bandwidth": "20 kbit", "duplex": True}))
    device = {"count": 1, "alpha": 0.8, "draft": "5 ms", "link": {**LINK, "bandwidth": "20 kbit"}}
    same = in_cell(1, {"bandwidth": "20 kbit"}).model_dump(exclude={"cells", "devices"})
    linked = run(SimulatedScenario.model_validate({**same, "devices": [device]}))
    assert len(pieces(alone)) > 50
    assert pieces(alone) == pytest.approx(pieces(linked), abs=1e-6)


def test_what_is_shared_decides_how_long_a_batch_waits_for_its_slowest() -> None:
    """A device with a quarter of the rate needs four times the band: then both drafts arrive together."""
    groups = [
        {"count": 1, "alpha": 0.8, "draft": "5 ms", "link": LINK, "cell": "c1", "eta": eta}
        for eta in (1, 0.25)
    ]

    def rate_of(sharing: str, *shares: float) -> float:
        given = [{**group, "share": share} for group, share in zip(groups, shares, strict=False)]
        what = in_cell(2, {"bandwidth": "80 kbit", "sharing": sharing}).model_dump()
        found = run(SimulatedScenario.model_validate({**what, "devices": given if shares else groups}))
        return float(found.outcome.metrics["output_throughput"])

    equal, contention = rate_of("equal"), rate_of("contention")
    assert rate_of("shares") == equal  # where nobody is given a share
    assert rate_of("shares", 0.8, 0.2) < 0.7 * equal < equal
    assert equal < 0.9 * rate_of("shares", 0.2, 0.8)
    assert equal < 0.9 * contention


def test_what_devices_send_and_get_is_what_the_cell_carries() -> None:
    """Prompts as ids in Opens, verdicts, drafts with their payload: the links count the same bytes."""
    what = in_cell(
        2,
        {"bandwidth": "2000 kbit"},
        {"payload_bits_per_token": 900},
        workload={"prompt": 700, "answer": 60, "think": "1 s"},
    )
    found = run(what)
    stack, cell = found.outcome.body["stack"], found.outcome.body["cells"]["c1"]
    up, down = (sum(device[way] for device in cell["devices"]) for way in ("up_bytes", "down_bytes"))
    counted = stack["link_bytes_per_emitted_token"] * stack["emitted_tokens"]
    assert up + down == pytest.approx(counted, rel=0.01)
    assert down > 2 * 700 * len(found.records)  # two to three bytes an id
    assert up > 900 / 8 * sum(record.drafted_tokens for record in found.records)
    assert sum(cell["series"]["device-0"]["bytes"]) == pytest.approx(
        cell["devices"][0]["up_bytes"] + cell["devices"][0]["down_bytes"]
    )
    assert cell["series"]["device-0"]["given"][0] == 0.5


def test_a_killed_device_leaves_its_cell_and_returns() -> None:
    killed = [{"at": "3 s", "kill": "device-0", "back": "2 s"}]
    found = run(in_cell(2, {"bandwidth": "40 kbit", "sharing": "contention"}, faults=killed))
    late = [record for record in found.records if any(chunk.at > record.sent + 6 for chunk in record.chunks)]
    assert len({record.request.device for record in late}) == 2


@pytest.mark.parametrize("order", [1, 2, 3])
def test_processes_may_take_turns_in_any_order(order: int) -> None:
    what = in_cell(
        3,
        {"bandwidth": "40 kbit", "sharing": "contention"},
        measure="4 s",
        faults=[{"at": "2 s", "kill": "device-1", "back": "1 s"}],
    )
    config = PolicyConfig(policy="fixed-k", k=4)
    outcome = simulate(Simulation(what, config, what.seed, None, order=order, decode=True), RunState())
    assert outcome.problems == []
    assert outcome.metrics["total_output_tokens"] > 30


def test_shares_that_the_scheduler_gives_do_what_given_ones_do() -> None:
    groups = [
        {"count": 1, "alpha": 0.8, "draft": "5 ms", "link": LINK, "cell": "c1", "eta": eta}
        for eta in (1, 0.25)
    ]
    cell = {"bandwidth": "80 kbit", "sharing": "shares"}
    what = SimulatedScenario.model_validate({**in_cell(2, cell).model_dump(), "devices": groups})

    def rate_of(bandwidth: str) -> float:
        policy = PolicyConfig.model_validate({"policy": "fixed-k", "k": 4, "bandwidth": bandwidth})
        outcome = simulate(Simulation(what, policy, what.seed), RunState())
        assert outcome.problems == []
        return float(outcome.metrics["output_throughput"])

    uniform = rate_of("uniform")
    assert rate_of("none") == pytest.approx(uniform, rel=0.02)
    assert uniform < 0.9 * rate_of("minmax")
    assert uniform < 0.9 * rate_of("fair")


def test_a_rule_needs_a_cell_whose_shares_can_be_given() -> None:
    policies = [{"policy": "fixed-k", "bandwidth": "minmax"}]
    with pytest.raises(ValueError, match=r"policies.0.bandwidth: no cell has sharing shares"):
        in_cell(2, {"bandwidth": "80 kbit", "sharing": "equal"}, policies=policies)
