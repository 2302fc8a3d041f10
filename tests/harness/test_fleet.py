"""Policies on scenarios, real services under virtual time: what a fixed cycle costs under jitter and among unequals."""

from math import log
from pathlib import Path

import pytest

from shared.planning.cost import Packed
from shared.scenario.scenario import PolicyConfig, read_scenario
from tests.harness.fleet import Served, serve

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
LAW = Packed(50.0, 1.3, 0.004)
VERIFY_MS = 34.0


def served(scenario: str, policy: str) -> Served:
    return serve(
        read_scenario(SCENARIOS / f"{scenario}.yaml"), PolicyConfig(policy=policy), LAW, VERIFY_MS, 12.0
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "min_ratio"), [("jittery", 1.1), ("heterogeneous", 1.1), ("paper-m14-a78", 0.97)]
)
def test_outrider_against_the_fixed_cycle(scenario: str, min_ratio: float) -> None:
    ours, fixed = served(scenario, "outrider"), served(scenario, "dip-sd")
    assert ours.tokens_per_s > min_ratio * fixed.tokens_per_s
    assert ours.tokens_per_s == pytest.approx(ours.predicted, rel=0.15)


@pytest.mark.slow
def test_fair_leaves_nobody_behind() -> None:
    fair, fast = served("heterogeneous", "outrider-fair"), served("heterogeneous", "outrider")
    assert sum(map(log, fair.by_device.values())) > sum(map(log, fast.by_device.values())) - 0.5
    assert min(fair.by_device.values()) > 0.75 * min(fast.by_device.values())
