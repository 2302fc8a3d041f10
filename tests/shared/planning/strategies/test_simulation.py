"""Simulation of strategies against results counted by hand and against DiP-SD's formula."""

from dataclasses import replace

import numpy as np
import pytest

from shared.planning.problem import LengthBounds, Problem, Prompts, Split, cycle_ms
from shared.planning.strategies.simulation import Strategies, simulate
from shared.planning.strategies.user_arrays import users_of
from tests.shared.planning.session_views import SERVER, user_arrays, view


def strategies(lengths: list[int], lane: list[int], min_ready: list[int], max_rows: int = 64) -> Strategies:
    return Strategies(np.array([lengths]), np.array([lane]), np.array([min_ready]), np.array([max_rows]))


def test_all_in_one_batch_take_turns_with_the_verifier() -> None:
    four = user_arrays([view(n) for n in range(4)])
    outcome = simulate(four, SERVER, strategies([3] * 4, [0] * 4, [4]))
    verify = float(SERVER.verify_ms(4, 3, 12, 225, 900))  # 200 tokens long, half-way to 250
    assert 1 / outcome.rounds[0] == pytest.approx([verify + 40.0] * 4)
    assert outcome.busy[0] == pytest.approx(verify / (verify + 40))
    assert outcome.rates[0] == pytest.approx(outcome.rounds[0] * four.emitted(np.array([3] * 4)))


@pytest.mark.parametrize("k", [1, 3, 9])
def test_equal_lanes_that_wait_for_all_have_the_rate_of_the_formula(k: int) -> None:
    views = [view(n) for n in range(4)]
    problem = Problem(tuple(users_of(views)), SERVER, LengthBounds(16, 0))
    outcome = simulate(user_arrays(views), SERVER, strategies([k] * 4, [0, 0, 1, 1], [2, 2]))
    cycle = cycle_ms(problem, Split(((0, 1), (2, 3)), (k,) * 4))
    assert 1 / outcome.rounds[0] == pytest.approx([cycle] * 4, rel=1e-6)


def test_lanes_have_no_fixed_order() -> None:
    outcome = simulate(
        user_arrays([view(n) for n in range(4)]), SERVER, strategies([16, 16, 1, 1], [0, 0, 1, 1], [2, 2])
    )
    assert outcome.rounds[0, 2] > 1.5 * outcome.rounds[0, 0]


def test_users_who_do_not_draft_are_in_every_batch() -> None:
    outcome = simulate(
        user_arrays([view(n) for n in range(6)]), SERVER, strategies([0, 0, 5, 5, 5, 5], [0] * 6, [2])
    )
    assert outcome.rounds[0, 0] >= outcome.rounds[0, 2] * 1.2


def test_arrivals_during_a_pass_cost_arrival_ms() -> None:
    apart = user_arrays([view(n) for n in range(4)])
    lanes = strategies([3] * 4, [0, 0, 1, 1], [2, 2])
    plain, slowed = simulate(apart, SERVER, lanes), simulate(apart, replace(SERVER, arrival_ms=3.0), lanes)
    assert 1 / slowed.rounds[0, 0] == pytest.approx(
        1 / plain.rounds[0, 0] + 2 * 2 * 3.0
    )  # two in each of two passes
    together = strategies([3] * 4, [0] * 4, [4])
    assert simulate(apart, replace(SERVER, arrival_ms=3.0), together).rates == pytest.approx(
        simulate(apart, SERVER, together).rates
    )


def test_prompts_take_their_share_of_a_verifier_that_is_never_idle() -> None:
    busy, reading = user_arrays([view(n) for n in range(8)]), Prompts(0.002, 150.0)
    lanes = strategies([1] * 8, [0] * 8, [1], max_rows=2)
    plain = simulate(busy, SERVER, lanes, passes=600)
    beside = simulate(busy, replace(SERVER, prompts=reading), lanes, passes=600)
    assert [plain.busy[0], beside.busy[0]] == pytest.approx([1.0, 1.0])
    assert beside.rates.sum() == pytest.approx((1 - reading.share) * plain.rates.sum(), rel=0.05)


def test_a_slow_user_delays_no_others_when_lanes_do_not_wait_for_all() -> None:
    views = [view(0, draft_s_per_token=0.2), *(view(n) for n in range(1, 6))]
    waiting = simulate(user_arrays(views), SERVER, strategies([3] * 6, [0] * 6, [6]))
    going_on = simulate(user_arrays(views), SERVER, strategies([3] * 6, [0] * 6, [4]))
    assert going_on.rates.sum() > 2 * waiting.rates.sum()
    assert 0 < going_on.rounds[0, 0] < going_on.rounds[0, 1]


def test_a_pass_has_max_rows_at_most_and_serves_all_users() -> None:
    six = user_arrays([view(n) for n in range(6)])
    outcome = simulate(six, SERVER, strategies([1] * 6, [0] * 6, [1], max_rows=2))
    assert outcome.rounds[0].min() == pytest.approx(outcome.rounds[0].max(), rel=0.1)
    alone = float(SERVER.verify_ms(2, 1, 2, 225, 450))
    assert 1 / outcome.rounds[0] == pytest.approx([3 * alone] * 6, rel=0.1)


def test_strategies_are_independent_and_share_draws_of_jitter() -> None:
    views = [view(n, link_s=0.08, spread_s=0.05) for n in range(6)]
    one, other = strategies([4] * 6, [0] * 6, [6]), strategies([2] * 6, [0, 0, 0, 1, 1, 1], [3, 2])
    both = simulate(user_arrays(views), SERVER, Strategies.concatenate([one, other]))
    for at, strategy in enumerate((one, other)):
        assert both.rates[at] == pytest.approx(simulate(user_arrays(views), SERVER, strategy).rates[0])
    assert both.rates[0].sum() > 0
