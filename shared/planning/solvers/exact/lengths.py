"""Draft lengths for batches that are given: exact, without a MILP.

The batches are a chain of nodes with one arc each; the rest is the search over caps.
"""

from collections.abc import Sequence

from shared.planning.problem import Split
from shared.planning.solvers.arrays.options import Batches
from shared.planning.solvers.arrays.problem_arrays import Arrays
from shared.planning.solvers.branch_and_bound.cycle_bounds import TOLERANCE, Found, best_plan, cap_range
from shared.planning.solvers.branch_and_bound.graphs import chain


def best_lengths(
    arrays: Arrays,
    batches: Sequence[Sequence[int]],
    above: float,
    caps: tuple[float, float] | None = None,
    tolerance: float = TOLERANCE,
) -> Split | None:
    """The best plan with these batches; None where none scores more than above.

    caps: only plans whose longest loop is within (ms). tolerance: see best_plan.
    """
    graph = chain(len(batches))
    found = best_plan(Batches.of(arrays, batches), graph, above, caps or cap_range(arrays), tolerance)
    return _split(found, len(arrays)) if found else None


def _split(found: Found, users: int) -> Split:
    lengths = [0] * users
    for batch in found.batches:
        for m, length in zip(batch.users, batch.lengths, strict=True):
            lengths[m] = length
    return Split(tuple(batch.users for batch in found.batches), tuple(lengths))
