"""Policies on scenarios: what a fixed cycle costs under jitter and among unequals."""

from math import log

import pytest

from shared.planning.server_laws import PackedLaw
from simulator.scenario import Core
from tests.simulator.runs import Simulated, run, shipped

SERVER = PackedLaw(
    law="packed",
    beta_ms=50.0,
    per_token_ms=1.3,
    per_context_ms=0.004,
    memory_bytes=1e10,
    kv_bytes_per_token=1e4,
)


def simulated(name: str, policy: str) -> Simulated:
    what = shipped(name).model_copy(update={"core": Core(server=SERVER)})
    return run(what, policy)


def tokens_per_s(one: Simulated) -> float:
    return float(one.outcome.metrics["output_throughput"])


def by_user(one: Simulated) -> dict[str, int]:
    """Tokens of each user in the measured interval."""
    tokens: dict[str, int] = {}
    for record in one.records:
        user = record.request.id.split("-")[0]
        tokens[user] = tokens.get(user, 0) + record.completion_tokens
    return tokens


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "min_ratio"), [("jittery", 1.1), ("heterogeneous", 1.1), ("paper-m14-a78", 0.97)]
)
def test_outrider_against_the_fixed_cycle(name: str, min_ratio: float) -> None:
    ours, fixed = simulated(name, "outrider"), simulated(name, "dip-sd")
    assert tokens_per_s(ours) > min_ratio * tokens_per_s(fixed)
    assert tokens_per_s(ours) == pytest.approx(ours.outcome.body["predicted_tokens_per_s"], rel=0.15)


@pytest.mark.slow
def test_fair_leaves_nobody_behind() -> None:
    fair, fast = (
        by_user(simulated("heterogeneous", "outrider-fair")),
        by_user(simulated("heterogeneous", "outrider")),
    )
    assert sum(map(log, fair.values())) > sum(map(log, fast.values())) - 0.5
    assert min(fair.values()) > 0.75 * min(fast.values())
