"""Quality of plans: exact against brute force, ours against exact, and an upper bound of all."""

import pytest

from shared.planning.instances import LAWS, heterogeneous
from shared.planning.objective import OBJECTIVES, Objective, ObjectiveName
from shared.planning.problem import LengthBounds, Problem
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.exact import exact_solver
from shared.planning.solvers.exact.upper_bound import upper_bound
from shared.planning.solvers.paper import paper_solver
from shared.planning.solvers.search import search_solver
from tests.shared.planning.solvers.brute_force import brute_force, fits


def check(problem: Problem, objective: Objective, plan: ScoredPlan | None) -> ScoredPlan:
    """Check a plan: each user once, lengths within bounds, batches within memory, the score that of the model."""
    assert plan is not None
    split = plan.split
    assert sorted(m for batch in split.batches for m in batch) == list(range(len(problem.users)))
    assert all(problem.bounds.min_draft <= k <= problem.bounds.max_draft for k in split.lengths)
    assert fits(problem, [list(batch) for batch in split.batches])
    assert plan.score == pytest.approx(objective.plan_score(problem, split), rel=1e-12)
    return plan


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(8))
def test_exact_plans_score_as_brute_force(seed: int, objective: ObjectiveName) -> None:
    goal = Objective(objective)
    problem = heterogeneous(seed, 1 + seed % 3, law=LAWS[seed % 2], max_draft=5, min_draft=seed // 2 % 2)
    plan = check(problem, goal, exact_solver.solve(ProblemArrays.of(problem, goal)))
    assert plan.score == pytest.approx(brute_force(problem, goal), rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_exact_plans_keep_the_bounds_on_batches(seed: int) -> None:
    free = heterogeneous(seed, 3, law=LAWS[seed % 2], max_draft=4)
    for low, high in ((1, 1), (2, 2), (3, 3), (2, None)):
        problem = Problem(free.users, free.server, LengthBounds(4, free.bounds.min_draft, low, high))
        plan = check(problem, Objective(), exact_solver.solve(ProblemArrays.of(problem, Objective())))
        assert plan.score == pytest.approx(brute_force(problem, Objective()), rel=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_ours_is_near_exact_and_below_the_bound(seed: int) -> None:
    problem = heterogeneous(100 + seed, 2 + seed % 4, law=LAWS[seed % 2], min_draft=seed // 2 % 2)
    arrays = ProblemArrays.of(problem, Objective())
    ours = check(problem, Objective(), search_solver.solve(arrays))
    best = check(problem, Objective(), exact_solver.solve(arrays, ours))
    assert best.score * 0.99 <= ours.score <= best.score * (1 + 1e-9)
    assert upper_bound(arrays, 1e-3) >= best.score * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_ours_is_never_worse_than_the_papers(seed: int) -> None:
    problem = heterogeneous(200 + seed, 4, law=LAWS[seed % 2], max_draft=6)
    arrays = ProblemArrays.of(problem, Objective())
    theirs = check(problem, Objective(), paper_solver.solve(arrays))
    ours = check(problem, Objective(), search_solver.solve(arrays))
    assert ours.score >= theirs.score * (1 - 1e-9)
