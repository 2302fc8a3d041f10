"""Planning again from a plan in force."""

import pytest

from shared.planning.instances import LAWS, heterogeneous
from shared.planning.objective import Objective
from shared.planning.problem import Problem
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.search import search_solver


def changed(seed: int, users: int, law: str) -> tuple[Problem, Problem]:
    """A problem, and the same problem with another first user."""
    before = heterogeneous(seed, users, law=law)
    other = heterogeneous(seed + 1000, users, law=law).users[0]
    return before, Problem((other, *before.users[1:]), before.server, before.bounds)


@pytest.mark.parametrize("seed", range(6))
def test_a_warm_start_follows_a_changed_user(seed: int) -> None:
    before, after = changed(seed, 10, LAWS[seed % 2])
    plan = search_solver.solve(ProblemArrays.of(before, Objective()))
    assert plan is not None
    arrays = ProblemArrays.of(after, Objective())
    warm = search_solver.replan(arrays, plan.split.batches, plan.cycle_ms, [0])
    cold = search_solver.solve(arrays)
    assert warm is not None
    assert cold is not None
    assert warm.score == pytest.approx(Objective().plan_score(after, warm.split))
    assert warm.score >= 0.9 * cold.score


def test_a_warm_start_handles_users_who_joined_or_left() -> None:
    arrays = ProblemArrays.of(heterogeneous(1, 5, law="packed"), Objective())
    plan = search_solver.replan(arrays, [(0, 3), (1,), ()], 300.0, [])
    assert plan is not None
    assert sorted(m for batch in plan.split.batches for m in batch) == [0, 1, 2, 3, 4]
    alone = search_solver.replan(arrays, [], 300.0, [])
    assert alone is not None
    assert sorted(m for batch in alone.split.batches for m in batch) == [0, 1, 2, 3, 4]
