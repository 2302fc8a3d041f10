"""The best strategy: never worse than the DiP-SD plan in the model, and right where the answer is known."""

import numpy as np
import pytest

from shared.planning.cost import Packed
from shared.planning.objective import Objective
from shared.planning.problem import LengthBounds, PackedServer, Problem
from shared.planning.solvers.solve import solve
from shared.planning.strategies.best_strategy import ServingQuery, best_strategy, strategies_of_batches
from shared.planning.strategies.simulation import simulate
from shared.planning.strategies.user_arrays import users_of
from shared.planning.views import SessionView
from tests.shared.planning.session_views import SERVER, user_arrays, view


def mixed(seed: int, users: int, spread_s: float = 0.0) -> list[SessionView]:
    rng = np.random.default_rng(seed)
    return [
        view(
            n,
            alpha=rng.uniform(0.5, 0.95),
            draft_s_per_token=0.012 * rng.uniform(1, 6),
            link_s=rng.uniform(0.003, 0.08) + spread_s,
            spread_s=spread_s,
        )
        for n in range(users)
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spread_s", [0.0, 0.06])
def test_a_strategy_is_never_worse_than_the_dip_sd_plan(seed: int, spread_s: float) -> None:
    views = mixed(seed, 8, spread_s)
    problem = Problem(tuple(users_of(views)), SERVER, LengthBounds(16, 1))
    plan, _ = solve(problem, Objective())
    strategies = strategies_of_batches(np.array(plan.split.lengths), plan.split.batches, 64)
    assert strategies is not None
    fixed = simulate(user_arrays(views), SERVER, strategies[np.array([0])]).rates.sum()
    candidate = best_strategy(ServingQuery(user_arrays(views), SERVER, "throughput", 64, 16), [strategies])
    assert candidate.rates.sum() >= fixed * (1 - 1e-9)


def test_under_jitter_lanes_do_not_wait_for_all() -> None:
    views = [view(n, alpha=0.9, link_s=0.08, spread_s=0.06) for n in range(14)]
    candidate = best_strategy(ServingQuery(user_arrays(views), SERVER, "throughput", 64, 16), [])
    assert candidate.strategy.min_ready[0, 0] < 14
    strategies = strategies_of_batches(np.full(14, 6), [tuple(range(14))], 64)
    assert strategies is not None
    waiting = simulate(user_arrays(views), SERVER, strategies[np.array([0])])
    assert candidate.rates.sum() > 1.2 * waiting.rates.sum()


def test_nobody_drafts_where_drafting_does_not_pay() -> None:
    views = [view(n, alpha=0.3, draft_s_per_token=0.3) for n in range(6)]
    candidate = best_strategy(ServingQuery(user_arrays(views), SERVER, "throughput", 64, 16), [])
    assert candidate.strategy.lengths[0].tolist() == [0] * 6


def test_a_few_users_draft_among_many_who_do_not() -> None:
    """Long drafts of one user pay. No small change leads there from a strategy without drafts."""
    slow = [view(n, alpha=0.6, draft_s_per_token=0.07, link_s=0.07) for n in range(13)]
    candidate = best_strategy(
        ServingQuery(user_arrays([*slow, view(13, alpha=0.9, link_s=0.07)]), SERVER, "throughput", 64, 16), []
    )
    assert candidate.strategy.lengths[0, :13].tolist() == [0] * 13
    assert candidate.strategy.lengths[0, 13] >= 4
    assert candidate.strategy.min_ready[0, 0] <= 13


def test_users_who_cannot_draft_do_not() -> None:
    views = [view(0, can_draft=False, alpha=0.99), *(view(n, alpha=0.9) for n in range(1, 5))]
    candidate = best_strategy(ServingQuery(user_arrays(views), SERVER, "throughput", 64, 16), [])
    assert candidate.strategy.lengths[0, 0] == 0
    assert candidate.strategy.lengths[0, 1:].min() > 0


@pytest.mark.parametrize("seed", range(4))
def test_fair_gives_every_user_half_of_the_fair_plan_s_rate(seed: int) -> None:
    views = mixed(seed, 10)
    problem = Problem(tuple(users_of(views)), SERVER, LengthBounds(16, 0))
    plan, _ = solve(problem, Objective("fair"), "outrider")
    fair = user_arrays(views).emitted(np.array(plan.split.lengths)) / plan.cycle_ms
    strategies = strategies_of_batches(np.array(plan.split.lengths), plan.split.batches, 64)
    candidate = best_strategy(
        ServingQuery(user_arrays(views), SERVER, "fair", 64, 16), [strategies] if strategies else []
    )
    assert (candidate.rates / fair).min() > 0.5


def test_many_users_and_few_rows_a_pass() -> None:
    views = mixed(1, 300)
    candidate = best_strategy(ServingQuery(user_arrays(views), SERVER, "throughput", 32, 16), [])
    assert candidate.strategy.max_rows[0] <= 32
    assert candidate.rounds.min() > 0


def test_plans_with_too_many_or_too_large_batches_are_not_lanes() -> None:
    assert strategies_of_batches(np.ones(8, dtype=np.int64), [(n,) for n in range(8)], 64) is None
    assert strategies_of_batches(np.ones(8, dtype=np.int64), [tuple(range(8))], 7) is None


def test_a_verifier_without_cost_is_handled() -> None:
    candidate = best_strategy(
        ServingQuery(user_arrays([view(0)]), PackedServer(Packed(1.0, 0.0)), "throughput", 64, 16), []
    )
    assert candidate.rates.sum() > 0
