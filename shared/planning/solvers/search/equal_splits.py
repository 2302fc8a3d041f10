"""Equal splits: all users in batches of equal size, sorted by speed or by prefix; the floor for every plan."""

from collections.abc import Iterator

import numpy as np

from shared.planning.solvers.arrays.batch_types import Members
from shared.planning.solvers.arrays.problem_arrays import Ints, ProblemArrays

GROWTH = 1.25  # factor from one number of batches to the next, after the first few
UNIT_STEPS = 4  # the first few numbers of batches follow each other


def equal_splits(arrays: ProblemArrays, score: float) -> Iterator[Iterator[list[Members]]]:
    """The splits of each order that may reach this score: from as few batches as fit to as many as time allows."""
    users = len(arrays)
    orders = [np.lexsort((arrays.prefix, arrays.draft_ms)), np.lexsort((arrays.draft_ms, arrays.prefix))]
    if np.ptp(arrays.draft_ms) == 0 or np.ptp(arrays.prefix) == 0:
        orders = orders[:1] if np.ptp(arrays.prefix) == 0 else orders[1:]
    max_batches = min(arrays.max_batches, users, _max_busy_batches(arrays, score))
    return (_splits(arrays, order, max_batches) for order in orders)


def _splits(arrays: ProblemArrays, order: Ints, max_batches: int) -> Iterator[list[Members]]:
    count, tried = _min_fitting_batches(arrays, order, max_batches), 0
    while count <= max_batches:
        if _fits(arrays, order, count):
            yield _split(order, count)
        tried += 1
        count = count + 1 if tried < UNIT_STEPS else int(count * GROWTH) + 1


def _max_busy_batches(arrays: ProblemArrays, score: float) -> int:
    """The number of batches above which their verifications alone take too long for this score."""
    min_draft, prefix = arrays.bounds.min_draft, float(arrays.prefix.min())
    one = arrays.copies * float(arrays.server.verify_ms(1.0, min_draft, min_draft, prefix, prefix))
    longest = arrays.objective.max_cycle_ms(score, arrays.total_weight, arrays.max_value)
    return int(min(longest / max(one, 1e-9), len(arrays)))


def _min_fitting_batches(arrays: ProblemArrays, order: Ints, max_batches: int) -> int:
    """The smallest number of equal batches within memory and bounds; above max_batches where none fits."""
    count = arrays.bounds.min_batches
    while count <= max_batches and not _fits(arrays, order, count):
        count += 1
    return count


def _fits(arrays: ProblemArrays, order: Ints, count: int) -> bool:
    starts = _edges(len(order), count)[:-1]
    users, prefix = arrays.count[order], arrays.prefix[order]
    sums = (np.add.reduceat(of, starts) for of in (users, users * prefix))
    sizes, prefixes = sums
    needed = arrays.server.needed_bytes(sizes, np.maximum.reduceat(prefix, starts), prefixes)
    return bool((np.asarray(needed) <= arrays.server.memory_bytes).all())


def _split(order: Ints, count: int) -> list[Members]:
    return [tuple(sorted(batch.tolist())) for batch in np.split(order, _edges(len(order), count)[1:-1])]


def _edges(users: int, count: int) -> Ints:
    """Where the batches begin, larger ones first, and where the last one ends."""
    sizes = np.full(count, users // count)
    sizes[: users % count] += 1
    return np.append(0, np.cumsum(sizes))
