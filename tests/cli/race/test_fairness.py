"""Rates under the fairest plan: alike for users alike, and nobody is given up."""

import pytest

from cli.race.fairness import fair_rates
from shared.planning.cost import Packed
from shared.scenario.scenario import DeviceSpec

LAW = Packed(50.0, 1.3, 0.003)


def device(n: int, alpha: float = 0.8, draft_ms: float = 12.0, delay_ms: float = 2.0) -> DeviceSpec:
    return DeviceSpec(f"device-{n}", alpha, draft_ms, delay_ms, 0.0, n + 1)


def test_users_alike_have_alike_rates() -> None:
    rates = fair_rates([device(n) for n in range(6)], LAW, 200)
    assert min(rates) == pytest.approx(max(rates), rel=0.05)
    assert sum(rates) > 6 * 1e3 / LAW.cost_ms([(1, 200)] * 6)  # more than without drafts


def test_the_slow_and_far_have_at_least_what_they_would_without_drafting() -> None:
    fleet = [device(n) for n in range(5)] + [device(5, alpha=0.3, draft_ms=90.0, delay_ms=60.0)]
    assert fair_rates(fleet, LAW, 200)[-1] > 0.5 * 1e3 / LAW.cost_ms([(1, 200)] * 6)
