"""The best plan there is: every way to split users into batches, and every length. Equal users are counted."""

import numpy as np

from shared.planning.solvers.arrays import Arrays
from shared.planning.solvers.caps import TOLERANCE, best_plan, cap_range
from shared.planning.solvers.classes import Classes
from shared.planning.solvers.graphs import lattice, lattice_arcs
from shared.planning.solvers.options import Batches
from shared.planning.solvers.plan import Plan

MAX_USERS = 10  # who all differ
MAX_ARCS = lattice_arcs((1,) * MAX_USERS)
FEW_ARCS = 1300.0, 300.0  # of classes that are searched at once: padded law, packed law


def searchable(arrays: Arrays, arcs: float = MAX_ARCS) -> bool:
    """Whether the ways to split these users into batches are few enough."""
    return lattice_arcs(Classes.of(arrays).counts) <= arcs


def countable(arrays: Arrays) -> bool:
    """Whether users are so equal that to search all plans takes but a blink."""
    return not arrays.varied and searchable(arrays, FEW_ARCS[arrays.packed])


def solve(arrays: Arrays, start: Plan | None = None, tolerance: float = TOLERANCE) -> Plan | None:
    """The best plan of users who are searchable; None where none fits.

    start: a plan to beat, which saves time. tolerance: how much better (relative) a plan must be to be looked for.
    """
    classes = Classes.of(arrays)
    groups, count, graph = lattice(classes.counts)
    batches = Batches(classes.arrays, groups.members, groups.starts, count)
    above = start.score if start else -np.inf
    found = best_plan(batches, graph, above, cap_range(classes.arrays), tolerance)
    return Plan.of(arrays, classes.everybody(found.batches)) if found else start
