"""Errors, order of policies and regret, on figures that are known in advance."""

from math import isnan, nan

import pytest

from cli.validate.agreement import Compared, errors_over, interval, kendall_tau, ranking
from cli.validate.run_metrics import METRICS, RunMetrics, Spread, mean_of


def run(rate: float, ms: float = 100.0, noise: float = 0.01) -> RunMetrics:
    spread = Spread(mean=ms, p50=ms, p95=2 * ms)
    slices = (rate * (1 - noise), rate, rate * (1 + noise))
    return RunMetrics(tokens_per_s=rate, ttft=spread, tpot=spread, round=spread, requests=10, rates=slices)


def compared(policy: str, live: float, simulated: float, noise: float = 0.01) -> Compared:
    repeats = (run(live * 0.99, noise=noise), run(live * 1.01, noise=noise))
    return Compared("near", policy, mean_of(repeats), run(simulated), repeats)


def test_errors_are_signed_shares_of_the_live_figure() -> None:
    cell = Compared("near", "fixed-k k=4", run(50.0, 200.0), run(55.0, 190.0), (run(50.0), run(51.0)))
    errors = cell.errors()
    assert errors["throughput"] == pytest.approx(0.10)
    assert errors["TTFT p95"] == errors["round mean"] == pytest.approx(-0.05)
    assert cell.live_errors()["throughput"] == pytest.approx(0.02)
    assert errors.keys() == METRICS.keys()


def test_one_live_run_says_nothing_about_live_against_live() -> None:
    alone = Compared("near", "dip-sd", run(50.0), run(50.0), (run(50.0),))
    assert all(isnan(error) for error in alone.live_errors().values())


def test_errors_over_cells() -> None:
    over = errors_over([0.02, -0.04, nan, 0.06])
    assert (over.mean, over.bias, over.worst, over.cells) == (
        pytest.approx(0.04),
        pytest.approx(0.04 / 3),
        pytest.approx(0.06),
        3,
    )
    assert over.p95 == pytest.approx(0.058)
    assert errors_over([nan]).cells == 0


def test_kendall_s_tau() -> None:
    ours = {"a": 1.0, "b": 2.0, "c": 3.0}
    assert kendall_tau(ours, ours) == 1.0
    assert kendall_tau(ours, {"a": 3.0, "b": 2.0, "c": 1.0}) == -1.0
    assert kendall_tau(ours, {"a": 1.0, "b": 3.0, "c": 2.0}) == pytest.approx(1 / 3)
    assert isnan(kendall_tau({"a": 1.0}, {"a": 1.0}))


def test_a_pick_that_is_not_the_best_live_costs_the_difference() -> None:
    cells = [compared("one", 100, 90), compared("two", 90, 99), compared("three", 50, 40)]
    rank = ranking(cells)
    assert (rank.picked, rank.best) == ("two", "one")
    assert rank.regret == pytest.approx(0.10)
    assert (rank.separated, rank.alike) == (3, 2)
    assert rank.tau == pytest.approx(1 / 3)


def test_pairs_that_live_runs_do_not_tell_apart_do_not_count() -> None:
    cells = [compared("one", 100, 90, noise=0.2), compared("two", 97, 99, noise=0.2)]
    assert (ranking(cells).separated, ranking(cells).alike) == (0, 0)


def test_an_interval_is_of_the_mean_of_slices() -> None:
    low, high = interval([9.0, 10.0, 11.0, 10.0])
    assert (low + high) / 2 == pytest.approx(10.0)
    assert high - low == pytest.approx(2 * 2.0 * 0.8165 / 2, rel=1e-3)
    assert interval([5.0]) == (5.0, 5.0)
