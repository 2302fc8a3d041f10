"""Lengths token by token."""

from dataclasses import replace

import pytest

from shared.planning.instances import LAWS, heterogeneous
from shared.planning.objective import OBJECTIVES, Objective, ObjectiveName
from shared.planning.problem import Split
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.search.adjust_lengths import adjust_lengths

BATCHES = ((3, 0), (1, 4, 2))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", range(6))
def test_no_change_by_one_token_is_better(seed: int, objective: ObjectiveName) -> None:
    goal = Objective(objective)
    problem = heterogeneous(seed, 5, law=LAWS[seed % 2], max_draft=8, min_draft=seed // 2 % 2)
    arrays = ProblemArrays.of(problem, goal)
    start = ScoredPlan.of(arrays, Split(BATCHES, (3, 1, 2, 1, 4)))
    plan = adjust_lengths(arrays, start)
    assert plan.score >= start.score
    assert plan.split.batches == BATCHES
    assert plan.score == pytest.approx(goal.plan_score(problem, plan.split))
    for m in range(5):
        for more in (-1, 1):
            lengths = list(plan.split.lengths)
            lengths[m] += more
            if problem.bounds.min_draft <= lengths[m] <= 8:
                other = goal.plan_score(problem, replace(plan.split, lengths=tuple(lengths)))
                assert other <= plan.score + 1e-9 * abs(plan.score)
