"""Exact lengths for given batches, against every combination."""

from itertools import product

import pytest

from shared.planning.instances import LAWS, heterogeneous
from shared.planning.objective import OBJECTIVES, Objective, ObjectiveName
from shared.planning.problem import Split
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.exact.lengths import best_lengths

BATCHES = ((0, 2), (1,))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(8))
def test_the_best_of_all_lengths(seed: int, objective: ObjectiveName) -> None:
    goal = Objective(objective)
    problem = heterogeneous(seed, 3, law=LAWS[seed % 2], max_draft=6, min_draft=seed // 2 % 2)
    best = max(
        goal.plan_score(problem, Split(BATCHES, chosen))
        for chosen in product(range(seed // 2 % 2, 7), repeat=3)
    )
    arrays = ProblemArrays.of(problem, goal)
    split = best_lengths(arrays, BATCHES, -float("inf"))
    assert split is not None
    assert goal.plan_score(problem, split) == pytest.approx(best, rel=1e-9)
    assert ScoredPlan.of(arrays, split).score == pytest.approx(best, rel=1e-9)


def test_there_is_no_better_plan_than_the_best() -> None:
    arrays = ProblemArrays.of(heterogeneous(1, 3, law="padded", max_draft=6), Objective())
    split = best_lengths(arrays, BATCHES, -float("inf"))
    assert split is not None
    assert best_lengths(arrays, BATCHES, ScoredPlan.of(arrays, split).score) is None
