"""The paper's two subproblems against brute force, and its time limit."""

from itertools import product

import pytest

from shared.planning import paper_setting
from shared.planning.instances import LAWS, heterogeneous
from shared.planning.objective import Objective
from shared.planning.problem import Split, cycle_ms
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.paper import paper_solver
from shared.planning.solvers.paper.milp import OutOfTime
from tests.shared.planning.solvers.brute_force import partitions


@pytest.mark.parametrize("seed", range(6))
def test_association_has_the_smallest_cycle(seed: int) -> None:
    problem = heterogeneous(seed, 5, law=LAWS[seed % 2])
    arrays, lengths = ProblemArrays.of(problem, Objective()), (3, 1, 2, 4, 2)
    associated = paper_solver.associate(arrays, 2, lengths)
    assert associated is not None
    best = min(
        cycle_ms(problem, Split(tuple(tuple(batch) for batch in batches), lengths))
        for batches in partitions(list(range(5)))
        if len(batches) == 2
    )
    assert cycle_ms(problem, Split(associated, lengths)) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_lengths_have_the_best_rate(seed: int) -> None:
    problem = heterogeneous(seed, 3, law=LAWS[seed % 2], max_draft=5)
    batches = ((0, 2), (1,))
    plan = paper_solver.choose_lengths(ProblemArrays.of(problem, Objective()), batches)
    assert plan is not None
    best = max(
        Objective().plan_score(problem, Split(batches, chosen)) for chosen in product(range(1, 6), repeat=3)
    )
    assert plan.score == pytest.approx(best, rel=1e-6)


def test_the_papers_second_headline() -> None:
    plan = paper_solver.solve(ProblemArrays.of(paper_setting.equal_users(6, 0.95), Objective()))
    assert plan is not None
    assert 1e3 * plan.score == pytest.approx(117.5596, abs=5e-5)


def test_the_solver_stops_at_its_time_limit() -> None:
    with pytest.raises(OutOfTime):
        paper_solver.solve(ProblemArrays.of(heterogeneous(0, 4, law="padded"), Objective()), lambda: 0.0)
