"""Window controllers on the simulated services."""

import pytest

from tests.simulator.runs import run, scenario

SHORT = {"settle": "0.5 s", "measure": "3 s"}


@pytest.mark.parametrize(("alpha", "tokens"), [(0.5, 2), (0.7, 4), (0.2, 1)])
def test_with_threshold_a_device_stops_where_survival_falls_below_three_tenths(
    alpha: float, tokens: int
) -> None:
    devices = [{"count": 2, "alpha": alpha, "draft": "5 ms"}]
    figures = run(scenario(devices=devices, **SHORT), window="threshold").outcome.metrics
    drafted = figures["drafted_tokens"] / figures["rounds"]
    assert drafted == pytest.approx(tokens, abs=0.1)  # a little fewer, at the ends of texts
