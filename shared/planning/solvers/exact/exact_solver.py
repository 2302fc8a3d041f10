"""The exact solver: the best plan over all partitions into batches and all lengths. Equal users are counted."""

from math import inf

import numpy as np

from shared.planning.solvers.arrays.options import Batches
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.arrays.scored_plan import ScoredPlan
from shared.planning.solvers.branch_and_bound.cycle_bounds import TOLERANCE, best_plan, cycle_bound_range
from shared.planning.solvers.branch_and_bound.graphs import lattice, lattice_arcs
from shared.planning.solvers.exact.classes import Classes

MAX_USERS = 10  # if all differ
MAX_ARCS = lattice_arcs((1,) * MAX_USERS)
COUNTABLE_ARCS = 1300.0, 300.0  # of classes that are searched at once: padded law, packed law
NEAR_ARCS = 40_000.0, 1500.0  # of classes that are searched around a good plan: padded law, packed law
NEAR_INTERVALS = 6  # searched there at most
NEAR_LOOP, NEAR_TOLERANCE = 1.01, 2e-3  # range of the longest loop there; improvement that is searched for


def searchable(arrays: ProblemArrays, arcs: float = MAX_ARCS) -> bool:
    """Whether there are few enough partitions of these users for an exact search."""
    return lattice_arcs(Classes.of(arrays).counts) <= arcs


def countable(arrays: ProblemArrays) -> bool:
    """Whether users are so equal that the exact search takes only milliseconds."""
    return not arrays.heterogeneous_users and searchable(arrays, COUNTABLE_ARCS[arrays.packed])


def solve(
    arrays: ProblemArrays,
    start: ScoredPlan | None = None,
    tolerance: float = TOLERANCE,
    cycle_bounds: tuple[float, float] | None = None,
    max_intervals: float = inf,
) -> ScoredPlan | None:
    """The best plan of users who are searchable; None where no plan fits.

    start: a plan to beat, which saves time. tolerance: relative improvement below which the search stops. cycle_bounds:
    only plans whose longest loop is within these (ms). max_intervals: searched at most.
    """
    classes = Classes.of(arrays)
    groups, count, graph = lattice(classes.counts)
    batches = Batches(classes.arrays, groups.members, groups.starts, count)
    above = start.score if start else -np.inf
    candidate = best_plan(
        batches, graph, above, cycle_bounds or cycle_bound_range(classes.arrays), tolerance, max_intervals
    )
    return ScoredPlan.of(arrays, classes.expand(candidate.batches)) if candidate else start


def solve_near(arrays: ProblemArrays, plan: ScoredPlan) -> ScoredPlan:
    """A plan at least as good: the best, nearly, with about the same longest loop; for classes of equal users."""
    if arrays.heterogeneous_users or not searchable(arrays, NEAR_ARCS[arrays.packed]):
        return plan
    return (
        solve(
            arrays, plan, NEAR_TOLERANCE, (plan.loop_ms / NEAR_LOOP, plan.loop_ms * NEAR_LOOP), NEAR_INTERVALS
        )
        or plan
    )
