"""The best plan there is: every way to split users into batches, and every length. Equal users are counted."""

from math import inf

import numpy as np

from shared.planning.solvers.arrays.options import Batches
from shared.planning.solvers.arrays.problem_arrays import Arrays
from shared.planning.solvers.arrays.scored_plan import Plan
from shared.planning.solvers.branch_and_bound.cycle_bounds import TOLERANCE, best_plan, cap_range
from shared.planning.solvers.branch_and_bound.graphs import lattice, lattice_arcs
from shared.planning.solvers.exact.classes import Classes

MAX_USERS = 10  # who all differ
MAX_ARCS = lattice_arcs((1,) * MAX_USERS)
FEW_ARCS = 1300.0, 300.0  # of classes that are searched at once: padded law, packed law
SOME_ARCS = 40_000.0, 1500.0  # of classes that are searched near a good plan
LOOKS = 6  # there
NEAR, NEARLY = 1.01, 2e-3  # how near, and how much better a plan must be there


def searchable(arrays: Arrays, arcs: float = MAX_ARCS) -> bool:
    """Whether the ways to split these users into batches are few enough."""
    return lattice_arcs(Classes.of(arrays).counts) <= arcs


def countable(arrays: Arrays) -> bool:
    """Whether users are so equal that to search all plans takes but a blink."""
    return not arrays.varied and searchable(arrays, FEW_ARCS[arrays.packed])


def solve(
    arrays: Arrays,
    start: Plan | None = None,
    tolerance: float = TOLERANCE,
    caps: tuple[float, float] | None = None,
    looks: float = inf,
) -> Plan | None:
    """The best plan of users who are searchable; None where none fits.

    start: a plan to beat, which saves time. tolerance: how much better (relative) a plan must be to be looked for.
    caps: only plans whose longest loop is within (ms). looks: see best_plan.
    """
    classes = Classes.of(arrays)
    groups, count, graph = lattice(classes.counts)
    batches = Batches(classes.arrays, groups.members, groups.starts, count)
    above = start.score if start else -np.inf
    found = best_plan(batches, graph, above, caps or cap_range(classes.arrays), tolerance, looks)
    return Plan.of(arrays, classes.everybody(found.batches)) if found else start


def solve_near(arrays: Arrays, plan: Plan) -> Plan:
    """A plan at least as good, where users are equal enough: about the best with a longest loop like this plan's."""
    if arrays.varied or not searchable(arrays, SOME_ARCS[arrays.packed]):
        return plan
    return solve(arrays, plan, NEARLY, (plan.loop_ms / NEAR, plan.loop_ms * NEAR), LOOKS) or plan
