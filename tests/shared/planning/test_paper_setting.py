"""The paper's published figures, from the model alone."""

import pytest

from shared.planning import paper_setting
from shared.planning.objective import Objective
from shared.planning.problem import Problem, Split, cycle_ms, expected_tokens
from shared.planning.solvers.solve import solve


def rate(problem: Problem, split: Split) -> float:
    return 1e3 * expected_tokens(problem, split) / cycle_ms(problem, split)


def test_the_constants() -> None:
    assert paper_setting.draft_ms() == pytest.approx(33.914511, abs=5e-7)
    server = paper_setting.equal_users(1).server
    assert server.verify_ms(1, 1, 1, 512, 512) == pytest.approx(95.682852, abs=5e-7)
    assert server.verify_ms(1, 7, 7, 512, 512) == pytest.approx(99.136230, abs=5e-7)


def test_the_number_of_users_that_fit_into_one_batch() -> None:
    server = paper_setting.equal_users(1).server
    assert (
        server.needed_bytes(49, 512, 49 * 512) <= server.memory_bytes < server.needed_bytes(50, 512, 50 * 512)
    )


@pytest.mark.parametrize(
    ("users", "alpha", "batches", "length", "tokens_per_s", "over_greedy"),
    [(14, 0.78, 2, 3, 186.9595, 1.3777), (6, 0.95, 3, 7, 117.5596, 1.9311)],
)
def test_the_headlines(
    users: int, alpha: float, batches: int, length: int, tokens_per_s: float, over_greedy: float
) -> None:
    problem = paper_setting.equal_users(users, alpha)
    each = users // batches
    split = Split(tuple(tuple(range(n * each, (n + 1) * each)) for n in range(batches)), (length,) * users)
    assert rate(problem, split) == pytest.approx(tokens_per_s, abs=5e-5)
    assert rate(problem, split) / paper_setting.greedy_batch_tokens_per_s(problem) == pytest.approx(
        over_greedy, abs=5e-5
    )


def test_the_first_headline_over_one_at_a_time() -> None:
    problem = paper_setting.equal_users(14)
    assert paper_setting.autoregressive_tokens_per_s(problem) == pytest.approx(10.451193, abs=5e-7)
    split = Split((tuple(range(7)), tuple(range(7, 14))), (3,) * 14)
    assert rate(problem, split) / paper_setting.autoregressive_tokens_per_s(problem) == pytest.approx(
        17.8888, abs=5e-5
    )


@pytest.mark.parametrize(("users", "alpha", "min_rate"), [(14, 0.78, 186.9595), (6, 0.95, 117.5596)])
def test_ours_is_as_good_as_the_published_points(users: int, alpha: float, min_rate: float) -> None:
    problem = paper_setting.equal_users(users, alpha)
    plan, _ = solve(problem, Objective(), "outrider")
    assert rate(problem, plan.split) >= min_rate - 5e-5
