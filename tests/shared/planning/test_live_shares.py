"""Shares among devices that are serving: what each rule makes equal, least widths, and nothing to carry."""

import pytest

from shared.cells.sharing import min_width_hz
from shared.planning.bandwidth_rules import BANDWIDTHS, Bandwidth
from shared.planning.live_shares import Demand, shares_hz

BAND = 256_000.0
DEMANDS = {
    "near": Demand(1.0, 40_000.0, rest_s=1.0),
    "far": Demand(0.1, 40_000.0, rest_s=4.0),
    "busy": Demand(0.5, 90_000.0, rest_s=2.0, weight=3.0),
}


def carried_s(shares: dict[str, float]) -> dict[str, float]:
    return {name: demand.bits / demand.eta / shares[name] for name, demand in DEMANDS.items()}


@pytest.mark.parametrize("rule", BANDWIDTHS)
def test_all_of_the_band_is_shared(rule: Bandwidth) -> None:
    assert sum(shares_hz(rule, BAND, DEMANDS).values()) == pytest.approx(BAND)


def test_uniform_is_the_same_band_and_fair_the_same_rate() -> None:
    assert set(shares_hz("uniform", BAND, DEMANDS).values()) == {BAND / 3}
    fair = shares_hz("fair", BAND, DEMANDS)
    rates = [fair[name] * demand.eta for name, demand in DEMANDS.items()]
    assert rates == pytest.approx([rates[0]] * 3)


def test_minmax_carries_everything_in_the_same_time() -> None:
    times = list(carried_s(shares_hz("minmax", BAND, DEMANDS)).values())
    assert times == pytest.approx([times[0]] * 3)


def test_joint_has_all_last_answers_at_the_same_time() -> None:
    times = carried_s(shares_hz("joint", BAND, DEMANDS))
    answers = [times[name] + demand.rest_s for name, demand in DEMANDS.items()]
    assert answers == pytest.approx([answers[0]] * 3)


def test_weighted_has_the_least_weighted_sum() -> None:
    best = shares_hz("weighted", BAND, DEMANDS)

    def total(shares: dict[str, float]) -> float:
        return sum(DEMANDS[name].weight * seconds for name, seconds in carried_s(shares).items())

    for rule in BANDWIDTHS:
        assert total(best) <= total(shares_hz(rule, BAND, DEMANDS)) * (1 + 1e-9)


def test_who_has_nothing_to_carry_keeps_a_least_width() -> None:
    idle = {**DEMANDS, "idle": Demand(0.2)}
    for rule in ("minmax", "weighted", "joint"):
        shares = shares_hz(rule, BAND, idle)
        assert shares["idle"] == pytest.approx(min_width_hz(BAND, 4, 0.2))
        assert sum(shares.values()) == pytest.approx(BAND)


def test_where_nobody_has_anything_the_band_is_the_same_for_all() -> None:
    idle = {"a": Demand(1.0), "b": Demand(0.1, rest_s=9.0)}
    assert shares_hz("joint", BAND, idle) == {"a": BAND / 2, "b": BAND / 2}
    assert shares_hz("minmax", BAND, {}) == {}


@pytest.mark.parametrize("eta", [0.0, -1.0, float("nan"), float("inf")])
def test_a_link_that_carries_nothing_is_refused(eta: float) -> None:
    with pytest.raises(ValueError, match=r"eta: .* above zero"):
        Demand(eta)
