"""Everybody in equally large batches, sorted by speed or by prefix: plain plans that no other may be worse than."""

from collections.abc import Iterator

import numpy as np

from shared.planning.solvers.arrays.batch_types import Members
from shared.planning.solvers.arrays.problem_arrays import Arrays, Ints

WIDER = 1.25  # times as many batches as in the split before, once there are more than a few
FEW = 4  # splits into as few batches as may be, and one, two, … more


def equal_splits(arrays: Arrays, score: float) -> Iterator[Iterator[list[Members]]]:
    """Splits that may score this much, of each order: from as few batches as fit to as many as there is time for."""
    users = len(arrays)
    orders = [np.lexsort((arrays.prefix, arrays.draft_ms)), np.lexsort((arrays.draft_ms, arrays.prefix))]
    if np.ptp(arrays.draft_ms) == 0 or np.ptp(arrays.prefix) == 0:
        orders = orders[:1] if np.ptp(arrays.prefix) == 0 else orders[1:]
    most = min(arrays.max_batches, users, _busiest(arrays, score))
    return (_splits(arrays, order, most) for order in orders)


def _splits(arrays: Arrays, order: Ints, most: int) -> Iterator[list[Members]]:
    count, tried = _fewest(arrays, order, most), 0
    while count <= most:
        if _fits(arrays, order, count):
            yield _split(order, count)
        tried += 1
        count = count + 1 if tried < FEW else int(count * WIDER) + 1


def _busiest(arrays: Arrays, score: float) -> int:
    """Batches at most: with more, their verifications alone take too long for such a score."""
    least, prefix = arrays.bounds.min_draft, float(arrays.prefix.min())
    one = arrays.copies * float(arrays.server.verify_ms(1.0, least, least, prefix, prefix))
    longest = arrays.objective.longest(score, arrays.all_weight, arrays.most_value)
    return int(min(longest / max(one, 1e-9), len(arrays)))


def _fewest(arrays: Arrays, order: Ints, most: int) -> int:
    """As few equal batches as memory and bounds allow; more than `most` where not even those fit."""
    count = arrays.bounds.min_batches
    while count <= most and not _fits(arrays, order, count):
        count += 1
    return count


def _fits(arrays: Arrays, order: Ints, count: int) -> bool:
    starts = _edges(len(order), count)[:-1]
    users, prefix = arrays.count[order], arrays.prefix[order]
    sums = (np.add.reduceat(of, starts) for of in (users, users * prefix))
    many, prefixes = sums
    room = arrays.server.room_bytes(many, np.maximum.reduceat(prefix, starts), prefixes)
    return bool((np.asarray(room) <= arrays.server.memory_bytes).all())


def _split(order: Ints, count: int) -> list[Members]:
    return [tuple(sorted(batch.tolist())) for batch in np.split(order, _edges(len(order), count)[1:-1])]


def _edges(users: int, count: int) -> Ints:
    """Where batches begin, the larger ones first, and the last one ends."""
    sizes = np.full(count, users // count)
    sizes[: users % count] += 1
    return np.append(0, np.cumsum(sizes))
