"""What a plan is to be good at. Every objective is a sum of users' values, scored against the cycle's time."""

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

    For all three a plan is better with more value in the same time and with the same value in less; and a user's value
    grows with its length by less and less. The solvers use nothing else.
    """

    name: ObjectiveName = "throughput"

    def value(self, user: User, length: int) -> float:
        """What one user adds."""
        emitted = user.emitted(length)
        if self.name == "throughput":
            return emitted
        return user.weight * (emitted if self.name == "weighted" else float(np.log(emitted)))

    def score(self, value: Real, weight: float, cycle: Real) -> Any:
        """Of a plan, or of many: the sum of users' values, the sum of their weights, the cycle in ms."""
        if self.name == "fair":
            return value - weight * np.log(cycle)
        return value / cycle

    def required_value(self, score: float, weight: float, cycle: Real) -> Any:
        """The value that a plan with this cycle needs for this score."""
        if self.name == "fair":
            return score + weight * np.log(cycle)
        return score * cycle

    def max_cycle_ms(self, score: float, weight: float, value: float) -> float:
        """The cycle in ms in which this value still makes this score."""
        return float(np.exp((value - score) / weight)) if self.name == "fair" else value / score

    def price(self, score: float, weight: float, cycle: Real) -> Any:
        """What a millisecond more of a cycle costs, in value, at this score."""
        return weight / cycle if self.name == "fair" else score

    def plan_score(self, problem: Problem, split: Split) -> float:
        """The score of a plan."""
        value = sum(self.value(user, k) for user, k in zip(problem.users, split.lengths, strict=True))
        weight = sum(user.weight for user in problem.users)
        return float(self.score(value, weight, cycle_ms(problem, split)))
