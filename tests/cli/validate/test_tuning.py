"""The fit finds the costs with which the live figures were made."""

from typing import Any

import pytest

from cli.validate.cell import Cell
from cli.validate.run_metrics import RunMetrics
from cli.validate.tuning import Tuned, fit
from shared.planning.profile import ServingCosts
from tests.cli.validate.cells import cell, repeat

TRUE = ServingCosts(
    pass_scale=1.1,
    hop_ms=0.4,
    message_ms=0.35,
    device_ms=2.0,
    request_ms=4.0,
    probe_ms=50.0,
    fitted_on=("here",),
)


def figures_of(one: Cell, costs: ServingCosts) -> tuple[float, float, float]:
    """Pass, round and first token of a stack that is a sum of its parts."""
    k = one.policy.k
    pass_ms = costs.pass_scale * (40.0 + 2 * k)
    round_ms = pass_ms + (6 if k else 4) * costs.hop_ms + 3 * costs.message_ms
    round_ms += (costs.device_ms + 9.0 * k + 10) if k else 0.0
    ttft_ms = 1.5 * pass_ms + 16 * costs.hop_ms + 4 * costs.message_ms + costs.request_ms
    return pass_ms, round_ms, ttft_ms


def simulate(one: Cell, costs: ServingCosts) -> tuple[RunMetrics, dict[str, Any]]:
    pass_ms, round_ms, ttft_ms = figures_of(one, costs)
    run = repeat(round_ms, ttft_ms, pass_ms)
    return run.metrics, dict(run.stack)


def tuned(k: int) -> Tuned:
    pass_ms, round_ms, ttft_ms = figures_of(cell(k), TRUE)
    return Tuned(cell(k), repeat(round_ms, ttft_ms, pass_ms, commit_ms=2.5))


def test_costs_are_found() -> None:
    runs = [tuned(k) for k in (0, 1, 3, 6)]
    found = fit(runs, simulate)
    assert found.fitted_on == (
        "near greedy-batch",
        "near fixed-k k=1",
        "near fixed-k k=3",
        "near fixed-k k=6",
    )
    assert found.pass_scale == pytest.approx(TRUE.pass_scale, rel=0.01)
    assert found.device_ms == pytest.approx(TRUE.device_ms, abs=0.5)
    for run in runs:
        for ours, live in zip(figures_of(run.cell, found), figures_of(run.cell, TRUE), strict=True):
            assert ours == pytest.approx(live, rel=0.003)


def test_a_hop_is_half_a_commit_at_most() -> None:
    runs = [
        Tuned(
            cell(k),
            repeat(*figures_of(cell(k), TRUE)[1:], pass_ms=figures_of(cell(k), TRUE)[0], commit_ms=0.3),
        )
        for k in (0, 4)
    ]
    assert fit(runs, simulate).hop_ms <= 0.15


def test_runs_without_a_first_token_do_not_count_for_it() -> None:
    runs = [tuned(k) for k in (0, 1, 3, 6)]
    short = repeat(figures_of(cell(3), TRUE)[1], float("nan"), figures_of(cell(3), TRUE)[0], commit_ms=2.5)
    found = fit([*runs, Tuned(cell(3), short)], simulate)
    assert found.pass_scale == pytest.approx(TRUE.pass_scale, rel=0.01)


def test_the_machine_s_speed_at_a_run_counts() -> None:
    """One run on a machine that was a fifth slower, which its calibrations show."""
    runs = [tuned(k) for k in (0, 1, 3)]
    pass_ms, round_ms, ttft_ms = figures_of(cell(6), TRUE.at(60.0))
    slow = repeat(round_ms, ttft_ms, pass_ms, commit_ms=2.5).model_copy(update={"probes_ms": (60.0, 60.0)})
    found = fit([*runs, Tuned(cell(6), slow)], simulate)
    assert found.probe_ms == pytest.approx(52.5)
    assert found.at(50.0).pass_scale == pytest.approx(TRUE.pass_scale, rel=0.01)
