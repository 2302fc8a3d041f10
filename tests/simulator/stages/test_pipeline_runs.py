"""Whole runs over modelled stages: the deployed classes, right texts under faults, the times of the law."""

import asyncio
from functools import cache
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.draft_worker.metrics import Metrics
from services.verifier.stages.front import FrontRank
from services.verifier.stages.rank_loop import StageRank
from services.verifier.stages.ring import Ring
from services.verifier.trees.tree_engine import TreeEngine
from services.verifier.verifier import Verifier
from shared.scenario.scenario import PolicyConfig, read_fields
from simulator.build import build
from simulator.scenario import SimulatedScenario
from simulator.simulation import Simulation
from simulator.stages.ranks import Rank
from simulator.virtual_loop import run_virtual
from tests.simulator.runs import SCENARIOS, run, scenario, shipped

STAGES = {
    "count": 3,
    "beta_ms": [20, 30, 25],
    "per_token_ms": 0.5,
    "row_ms": 0.08,
    "head_ms": 2,
    "trees": {"draft_ms": 5, "p1": 0.75},
}
MODES = [("greedy-batch", 0, ""), ("cyclic-k", 4, ""), ("fixed-k", 4, "flowspec"), ("flowspec", 4, "")]


def small(faults: list[dict[str, Any]], kv_tokens: int = 1 << 16, **stages: Any) -> SimulatedScenario:
    """Six users, of whom some read the same prompts; devices near by."""
    return scenario(
        seed=5,
        devices=[{"count": 6, "alpha": 0.75, "draft": "5 ms", "link": {"delay": "2 ms"}}],
        core={"stages": {**STAGES, **stages}, "kv_tokens": kv_tokens},
        load={"concurrency": 6, "requests": 18, "prompt-tokens": "10..150", "answer-tokens": "10..50"},
        faults=faults,
    )


def test_its_ranks_are_of_the_deployed_classes() -> None:
    async def play() -> list[type]:
        what = Simulation(shipped("pipeline"), PolicyConfig(policy="fixed-k", k=3), 1)
        stack = build(what, Metrics(CollectorRegistry()))
        async with stack:
            await asyncio.sleep(2.0)
            front, stage = stack.services["verifier-0"], stack.services["verifier-0-stage-4"]
            assert isinstance(front, Rank)
            assert isinstance(stage, Rank)
            assert isinstance(front._role, FrontRank)
            verifier = front._ready.verifier
            assert verifier is not None
            passes: Any = verifier._passes
            return [type(one) for one in (stage._role, verifier, passes._ring, passes.engine)]

    assert run_virtual(play()) == [StageRank, Verifier, Ring, TreeEngine]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(map(str, mode)))
def test_texts_are_right_while_ranks_die_and_the_broker_is_away(mode: tuple[str, int, str]) -> None:
    faults = [
        {"at": "2 s", "kill": "verifier-0-stage-2", "back": "1 s"},
        {"at": "6 s", "kill": "verifier-0", "back": "1 s"},
        {"at": "10 s", "kill": "verifier-0-stage-3", "back": "1 s"},
        {"at": "13 s", "broker_away": "2 s"},
        {"at": "13.5 s", "kill": "verifier-0-stage-1", "back": "1 s"},
    ]
    policy, k, window = mode
    done = run(small(faults), policy, k, 3, window)  # which compares all texts
    assert done.outcome.metrics["completed"] == 18


@pytest.mark.parametrize("mode", MODES[1:], ids=lambda mode: "-".join(map(str, mode)))
def test_texts_are_right_where_sessions_take_each_others_pages(mode: tuple[str, int, str]) -> None:
    """A session may also lose its pages between its last row and the tree that was to go on from there."""
    policy, k, window = mode
    done = run(small([], kv_tokens=512), policy, k, 3, window)
    assert done.outcome.metrics["completed"] == 18


@cache
def one_user(split: bool, policy: str = "greedy-batch", window: str = "") -> dict[str, float]:
    what = scenario(
        devices=[{"alpha": 0.75, "draft": "5 ms", "link": {"delay": "2 ms"}}],
        core={"stages": {**STAGES, "split": split}, "hop": "0.25 ms"},
        workload={"prompt": 32, "answer": 50},
        settle="2 s",
        measure="12 s",
    )
    return dict(run(what, policy, 0, window=window).outcome.metrics)


def test_a_token_alone_takes_all_stages_head_and_hops() -> None:
    """With two hops from the broker to the verifier and back for each."""
    law_ms = 20 + 30 + 25 + 3 * 0.5 + 2
    piped, whole = one_user(split=True), one_user(split=False)
    assert whole["median_tpot_ms"] == pytest.approx(law_ms + 4 * 0.25, rel=0.01)
    assert piped["median_tpot_ms"] == pytest.approx(law_ms + 4 * 0.3 + 3 * 0.08 + 4 * 0.25, rel=0.02)


@pytest.mark.slow
def test_trees_of_the_core_or_of_devices_are_faster_than_a_token_a_pass() -> None:
    alone = one_user(True)["output_throughput"]
    assert one_user(True, window="flowspec")["output_throughput"] > 1.8 * alone
    assert one_user(True, "flowspec")["output_throughput"] > 1.8 * alone


@pytest.mark.slow
def test_lanes_fill_the_stages() -> None:
    """Several passes are under way at a time, where one process makes one after the other."""
    busy: dict[tuple[str, bool], float] = {}
    speed: dict[tuple[str, bool], float] = {}
    for policy in ("fixed-k", "cyclic-k"):
        for split in (True, False):
            fields = read_fields(SCENARIOS / "pipeline.yaml")
            fields["devices"][0]["count"], fields["core"]["stages"]["split"] = 8, split
            fields |= {"settle": "5 s", "measure": "20 s"}
            found = run(SimulatedScenario.model_validate(fields), policy, 4, 4).outcome
            speed[policy, split] = found.metrics["output_throughput"]
            busy[policy, split] = found.body["stack"]["verifier_utilisation"]
    assert speed["cyclic-k", True] > 1.2 * speed["fixed-k", True]
    assert speed["cyclic-k", True] > 1.5 * speed["cyclic-k", False]
    assert busy["cyclic-k", True] > 2 * busy["fixed-k", True]
