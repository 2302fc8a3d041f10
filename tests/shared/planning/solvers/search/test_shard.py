"""Many equal users: distributed to shards, one of which is planned."""

import numpy as np
import pytest

from shared.planning.instances import LAWS, heterogeneous, of_classes
from shared.planning.objective import OBJECTIVES, Objective
from shared.planning.problem import LengthBounds, Problem, Split
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.search import search_solver
from shared.planning.solvers.search.shard import Shard
from tests.shared.planning.solvers.brute_force import fits


@pytest.mark.parametrize("users", [3000, 3217])
@pytest.mark.parametrize("law", LAWS)
def test_all_users_are_planned_within_memory(law: str, users: int) -> None:
    goal = Objective(OBJECTIVES[users % 3])
    problem = of_classes(1, users, 10, law=law)
    arrays = ProblemArrays.of(problem, goal)
    assert Shard.of(arrays) is not None
    plan = search_solver.solve(arrays)
    assert plan is not None
    assert sorted(m for batch in plan.split.batches for m in batch) == list(range(users))
    assert fits(problem, [list(batch) for batch in plan.split.batches])
    assert all(1 <= length <= problem.bounds.max_draft for length in plan.split.lengths)
    assert plan.score == pytest.approx(goal.plan_score(problem, plan.split), rel=1e-9)


def test_the_score_of_a_shard_is_that_of_all_users_where_they_divide_evenly() -> None:
    arrays = ProblemArrays.of(of_classes(2, 3000, 10, law="padded"), Objective())
    shard = Shard.of(arrays)
    assert shard is not None
    small = shard.arrays
    assert small.copies > 1
    assert small.copies * small.count.sum() == 3000
    assert len(small) < 3000 / small.copies + 1
    assert small.total_weight == pytest.approx(arrays.total_weight)
    assert small.max_value == pytest.approx(arrays.max_value)
    plan = search_solver.solve(small)
    assert plan is not None
    whole = ScoredPlan.of(arrays, shard.expand(plan.split))
    assert len(whole.split.batches) == small.copies * len(plan.split.batches)
    assert whole.score == pytest.approx(plan.score)
    assert whole.cycle_ms == pytest.approx(plan.cycle_ms)


def test_units_are_of_one_class_and_no_shard_has_more_users_than_the_planned_one() -> None:
    arrays = ProblemArrays.of(of_classes(3, 2999, 7, law="padded"), Objective())
    shard = Shard.of(arrays)
    assert shard is not None
    small = shard.arrays
    assert (arrays.draft_ms == small.draft_ms[shard.unit_of]).all()
    assert (arrays.prefix == small.prefix[shard.unit_of]).all()
    each = np.bincount(shard.shard_of * len(small) + shard.unit_of, minlength=small.copies * len(small))
    assert (each.reshape(small.copies, -1) <= small.count).all()
    sizes = np.bincount(shard.shard_of)
    assert sizes.max() - sizes.min() <= 1
    alone = Split(tuple((m,) for m in range(len(small))), (1,) * len(small))
    whole = shard.expand(alone)
    assert sorted(m for batch in whole.batches for m in batch) == list(range(2999))


def test_the_number_of_batches_is_within_bounds() -> None:
    free = of_classes(4, 2000, 5, law="packed")
    problem = Problem(free.users, free.server, LengthBounds(min_batches=9, max_batches=12))
    plan = search_solver.solve(ProblemArrays.of(problem, Objective()))
    assert plan is not None
    assert 9 <= len(plan.split.batches) <= 12


def test_heterogeneous_users_and_few_users_have_no_shard() -> None:
    assert Shard.of(ProblemArrays.of(heterogeneous(1, 2000, law="packed"), Objective())) is None
    assert Shard.of(ProblemArrays.of(of_classes(1, 300, 5, law="packed"), Objective())) is None
