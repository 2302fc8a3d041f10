"""Objectives: scores, and the value and cycle for a score."""

import pytest

from shared.planning.instances import heterogeneous
from shared.planning.objective import OBJECTIVES, Objective, ObjectiveName
from shared.planning.problem import Split, cycle_ms


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_value_and_cycle_for_a_score(name: ObjectiveName) -> None:
    goal = Objective(name)
    score = goal.score(12.0, 3.0, 250.0)
    assert goal.required_value(score, 3.0, 250.0) == pytest.approx(12.0)
    assert goal.max_cycle_ms(score, 3.0, 12.0) == pytest.approx(250.0)
    slope = (goal.required_value(score, 3.0, 250.001) - goal.required_value(score, 3.0, 250.0)) / 0.001
    assert goal.price(score, 3.0, 250.0) == pytest.approx(slope, rel=1e-4)


def test_fair_is_the_weighted_sum_of_logarithms_of_rates() -> None:
    from math import log

    problem = heterogeneous(0, 3, law="padded")
    split = Split(((0, 1), (2,)), (2, 1, 3))
    cycle = cycle_ms(problem, split)
    rates = [user.emitted(k) / cycle for user, k in zip(problem.users, split.lengths, strict=True)]
    expected = sum(user.weight * log(rate) for user, rate in zip(problem.users, rates, strict=True))
    assert Objective("fair").plan_score(problem, split) == pytest.approx(expected)
