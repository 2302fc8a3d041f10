"""Objectives of a plan. Each one is a sum of users' values, scored against the time of the cycle."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from shared.planning.cost import Real
from shared.planning.problem import Problem, Split, User, cycle_ms

ObjectiveName = Literal["throughput", "weighted", "fair"]
OBJECTIVES: tuple[ObjectiveName, ...] = get_args(ObjectiveName)


@dataclass(frozen=True, slots=True)
class Objective:
    """throughput: Σ u / S. weighted: Σ w·u / S. fair: Σ w · log(u / S), proportional fairness.

    Under all three the score rises with the value and falls with the time, and a user's value is concave in its draft
    length. The solvers use only these properties.
    """

    name: ObjectiveName = "throughput"

    def value(self, user: User, length: int) -> float:
        """The value that a user adds with a draft of this length."""
        emitted = user.emitted(length)
        if self.name == "throughput":
            return emitted
        return user.weight * (emitted if self.name == "weighted" else float(np.log(emitted)))

    def score(self, value: Real, weight: float, cycle: Real) -> Any:
        """The score of a plan, or of many.

        value: sum of the users' values. weight: sum of their weights. cycle: ms.
        """
        if self.name == "fair":
            return value - weight * np.log(cycle)
        return value / cycle

    def required_value(self, score: float, weight: float, cycle: Real) -> Any:
        """The sum of values that a plan with this cycle (ms) needs for this score."""
        if self.name == "fair":
            return score + weight * np.log(cycle)
        return score * cycle

    def max_cycle_ms(self, score: float, weight: float, value: float) -> float:
        """The longest cycle, in ms, with which this sum of values still has this score."""
        return float(np.exp((value - score) / weight)) if self.name == "fair" else value / score

    def price(self, score: float, weight: float, cycle: Real) -> Any:
        """The price of a millisecond: the value that must be added when the cycle grows by 1 ms, at this score."""
        return weight / cycle if self.name == "fair" else score

    def plan_score(self, problem: Problem, split: Split) -> float:
        """The score of a plan."""
        value = sum(self.value(user, k) for user, k in zip(problem.users, split.lengths, strict=True))
        weight = sum(user.weight for user in problem.users)
        return float(self.score(value, weight, cycle_ms(problem, split)))
