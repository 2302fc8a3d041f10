"""Batches of equal users as types, against batches one by one."""

import numpy as np
import pytest

from shared.planning.instances import LAWS, of_classes
from shared.planning.objective import Objective
from shared.planning.problem import Problem, Split
from shared.planning.solvers.arrays.batch_types import BatchTypes
from shared.planning.solvers.arrays.options import Batches
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.search.length_scan import scan
from shared.planning.solvers.search.local_search import improve

KINDS = 3
PARTITIONS = [
    [(0, 1, 3), (2, 5), (4, 6, 9), (8,), (7, 10, 11), (12, 13, 14)],  # the third is like the first
    [tuple(range(15))],
]


@pytest.fixture(params=LAWS)
def problem(request: pytest.FixtureRequest) -> Problem:
    return of_classes(5, 15, KINDS, law=request.param)


def test_equal_batches_are_one_type(problem: Problem) -> None:
    arrays = ProblemArrays.of(problem, Objective())
    assert arrays.class_of is not None
    assert (arrays.class_of == np.arange(15) % KINDS).all()
    types = BatchTypes.of(arrays, PARTITIONS)
    assert types.starts.tolist() == [0, 5]
    assert types.partition.tolist() == [0, 0, 0, 0, 0, 1]
    assert types.multiplicity.tolist() == [2, 1, 1, 1, 1, 1]
    every = Batches.of(arrays, [batch for partition in PARTITIONS for batch in partition])
    assert (types.batches.users[types.type_of_batch] == every.users).all()
    assert (types.batches.prefixes[types.type_of_batch] == every.prefixes).all()
    assert (types.batches.members[types.entry] == arrays.class_of[types.members]).all()
    assert (types.batches.owner[types.entry] == types.type_of_batch[types.owner]).all()


def test_plans_by_type_are_those_of_single_users(problem: Problem) -> None:
    arrays, apart = (ProblemArrays.of(problem, Objective()) for _ in range(2))
    apart.__dict__["class_of"] = None
    cycle_bounds = np.array([[300.0, 500.0, 900.0], [600.0, 1200.0, 3000.0]])
    together, each = (scan(of, PARTITIONS, cycle_bounds, 0.02, 2) for of in (arrays, apart))
    assert len(together) == len(each) > 0
    for plan in together:
        assert plan.score == pytest.approx(Objective().plan_score(problem, plan.split))
    assert together[0].score == pytest.approx(each[0].score, rel=0.02)


def test_local_search_improves_equal_batches(problem: Problem) -> None:
    arrays = ProblemArrays.of(problem, Objective())
    start = ScoredPlan.of(arrays, Split(tuple(PARTITIONS[0]), (1,) * 15))
    better = improve(arrays, start, 4)
    assert better.score > start.score
    assert better.score == pytest.approx(Objective().plan_score(problem, better.split))
    assert sorted(m for batch in better.split.batches for m in batch) == list(range(15))
