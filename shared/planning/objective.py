"""What a plan is to be good at. Every objective is a sum of users' values, scored against the cycle's time."""

from dataclasses import dataclass
from math import log
from typing import Literal, get_args

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
        return user.weight * (emitted if self.name == "weighted" else log(emitted))

    def score(self, value: float, weight: float, cycle: float) -> float:
        """Of a plan: the sum of its users' values, the sum of their weights, its cycle in ms. Higher is better."""
        if self.name == "fair":
            return value - weight * log(cycle)
        return value / cycle

    def of(self, problem: Problem, split: Split) -> float:
        """The score of a plan."""
        value = sum(self.value(user, k) for user, k in zip(problem.users, split.lengths, strict=True))
        weight = sum(user.weight for user in problem.users)
        return self.score(value, weight, cycle_ms(problem, split))
