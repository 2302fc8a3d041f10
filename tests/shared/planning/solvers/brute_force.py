"""Brute force, independent of the solvers."""

from collections.abc import Iterator
from itertools import product
from math import inf

from shared.planning.objective import Objective
from shared.planning.problem import Problem, Split


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    """All partitions of items into batches."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for smaller in partitions(rest):
        for n in range(len(smaller)):
            yield [*smaller[:n], [first, *smaller[n]], *smaller[n + 1 :]]
        yield [[first], *smaller]


def fits(problem: Problem, batches: list[list[int]]) -> bool:
    """Whether memory and the count of batches allow it."""
    bounds = problem.bounds
    if not bounds.min_batches <= len(batches) <= (bounds.max_batches or inf):
        return False
    for batch in batches:
        prefixes = [problem.users[m].prefix for m in batch]
        if (
            problem.server.needed_bytes(len(batch), max(prefixes), sum(prefixes))
            > problem.server.memory_bytes
        ):
            return False
    return True


def brute_force(problem: Problem, objective: Objective) -> float:
    """The best score of all plans."""
    lengths = range(problem.bounds.min_draft, problem.bounds.max_draft + 1)
    return max(
        objective.plan_score(problem, Split(tuple(tuple(batch) for batch in batches), chosen))
        for batches in partitions(list(range(len(problem.users))))
        if fits(problem, batches)
        for chosen in product(lengths, repeat=len(problem.users))
    )
