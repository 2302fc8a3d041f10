"""Exact draft lengths for given batches, without a MILP.

The graph is a chain with one arc for each batch; branch and bound over cycle bounds does the rest.
"""

from collections.abc import Sequence

from shared.planning.problem import Split
from shared.planning.solvers.arrays.options import Batches
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.branch_and_bound.cycle_bounds import (
    TOLERANCE,
    PlanCandidate,
    best_plan,
    cycle_bound_range,
)
from shared.planning.solvers.branch_and_bound.graphs import chain


def best_lengths(
    arrays: ProblemArrays,
    batches: Sequence[Sequence[int]],
    above: float,
    cycle_bounds: tuple[float, float] | None = None,
    tolerance: float = TOLERANCE,
) -> Split | None:
    """The best plan with these batches; None unless it scores more than `above`.

    cycle_bounds: only plans whose longest loop is within these (ms). tolerance: relative improvement below which the
    search stops.
    """
    graph = chain(len(batches))
    candidate = best_plan(
        Batches.of(arrays, batches), graph, above, cycle_bounds or cycle_bound_range(arrays), tolerance
    )
    return _split(candidate, len(arrays)) if candidate else None


def _split(candidate: PlanCandidate, users: int) -> Split:
    lengths = [0] * users
    for batch in candidate.batches:
        for m, length in zip(batch.users, batch.lengths, strict=True):
            lengths[m] = length
    return Split(tuple(batch.users for batch in candidate.batches), tuple(lengths))
