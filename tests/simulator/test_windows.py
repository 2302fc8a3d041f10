"""Window controllers on the simulated services."""

import pytest

from tests.simulator.runs import run, scenario

SHORT = {"settle": "0.5 s", "measure": "3 s"}


@pytest.mark.parametrize(("delay", "best"), [("1 ms", "static"), ("100 ms", "fused")])
def test_far_devices_are_beaten_by_the_core_s_own_drafts_and_near_ones_are_not(delay: str, best: str) -> None:
    """A round of a device's draft takes the link's round trip, a row of the core's own two hops."""
    devices = [{"count": 4, "alpha": 0.85, "draft": "4 ms", "link": {"delay": delay}}]
    what = scenario(devices=devices, core={"fused": {"alpha": 0.6, "match": 0.5}}, **SHORT)
    outcomes = {window: run(what, window=window).outcome for window in ("static", "fused")}
    assert max(outcomes, key=lambda window: outcomes[window].metrics["output_throughput"]) == best
    fused = outcomes["fused"].body["stack"]
    assert fused["drafted_tokens"] == 0
    # of four tokens .6 + .36 + .216 + .13 are accepted
    assert fused["fused_accepted_tokens"] / fused["fused_drafted_tokens"] == pytest.approx(0.326, abs=0.05)


@pytest.mark.parametrize(("alpha", "tokens"), [(0.5, 2), (0.7, 4), (0.2, 1)])
def test_with_threshold_a_device_stops_where_survival_falls_below_three_tenths(
    alpha: float, tokens: int
) -> None:
    devices = [{"count": 2, "alpha": alpha, "draft": "5 ms"}]
    figures = run(scenario(devices=devices, **SHORT), window="threshold").outcome.metrics
    drafted = figures["drafted_tokens"] / figures["rounds"]
    assert drafted == pytest.approx(tokens, abs=0.1)  # a little fewer, at the ends of texts
