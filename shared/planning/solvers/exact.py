"""The best plan there is: every way to split users into batches, and every length."""

import numpy as np

from shared.planning.solvers.arrays import Arrays
from shared.planning.solvers.caps import best_plan, cap_range
from shared.planning.solvers.graphs import lattice
from shared.planning.solvers.options import Batches
from shared.planning.solvers.plan import Plan

MAX_USERS = 10  # 3^M pairs of a set and a batch that extends it


def solve(arrays: Arrays, start: Plan | None = None) -> Plan | None:
    """The best plan; None where none fits. start: a plan to beat, which saves time. At most MAX_USERS users."""
    sets, graph = lattice(len(arrays))
    found = best_plan(
        Batches(arrays, sets.members, sets.starts),
        graph,
        start.score if start else -np.inf,
        cap_range(arrays),
    )
    return Plan.of(arrays, found.split) if found else start
