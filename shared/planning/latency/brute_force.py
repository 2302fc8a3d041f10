"""Solver `exact` of objective `latency`: every draft length, every way to cut the sorted users, every sequence.

Also every set partition, for the question of what sorted intervals cost; for a few users.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise, permutations
from math import inf
from typing import Final

import numpy as np

from shared.planning.latency.cohort import Cohort
from shared.planning.latency.interval_costs import Batching, Intervals
from shared.planning.latency.latency_plan import best_of
from shared.planning.latency.latency_solver import Candidate, infeasible, user_orders
from shared.planning.latency.radio import Radio

MAX_USERS: Final = 8
TIE: Final = 1e-12  # relative: a bound that close to the best is not looked into


def searchable(cohort: Cohort) -> bool:
    """Whether there are few enough users."""
    return len(cohort.users) <= MAX_USERS


def best_candidate(cohort: Cohort, latency_ms: float = inf) -> Candidate:
    """The best sequence of intervals of the sorted users, over all draft lengths and the orders of solver `outrider`.

    latency_ms: an end that is known to be possible; what cannot be earlier is skipped. Raises Infeasible.
    """
    found = _best_over(cohort, user_orders(cohort), latency_ms)
    if found is None:
        raise infeasible(cohort)
    return found


def best_partition(cohort: Cohort) -> Candidate:
    """The best sequence of any batches, sorted or not: every set partition is an interval batching of some order.

    For each partition the order lists its batches one after another. Raises Infeasible.
    """
    best: Candidate | None = None
    for blocks in set_partitions(range(len(cohort.users))):
        order = tuple(member for block in blocks for member in block)
        cuts = np.cumsum([0, *(len(block) for block in blocks)])
        batching = tuple(pairwise(cuts.tolist()))
        found = _best_over(cohort, [order], best.latency_ms if best else inf, [batching])
        best = found or best
    if best is None:
        raise infeasible(cohort)
    return best


def _best_over(
    cohort: Cohort, orders: Sequence[tuple[int, ...]], limit_ms: float, batchings: Sequence[Batching] = ()
) -> Candidate | None:
    """The best candidate that ends before limit_ms, up to rounding; no batchings: all intervals."""
    radio, best = Radio(cohort), None
    limit_ms *= 1 + TIE
    for order in orders:
        intervals = Intervals.of(cohort, order)
        for length in cohort.lengths:
            costs = intervals.costs(length)
            for batching in batchings or interval_batchings(len(order)):
                first, end = (np.array(part, dtype=np.int64) for part in zip(*batching, strict=True))
                # Every verification of a round is over in R periods at the earliest.
                if not costs.admits(first, end) or costs.rounds * costs.period_ms(batching) >= limit_ms:
                    continue
                sequences = np.array(list(permutations(range(len(batching)))), dtype=np.int64)
                limit, at = best_of(costs, first[sequences], end[sequences], radio, limit_ms)
                if at >= 0:
                    limit_ms = limit
                    best = Candidate(costs, tuple(batching[m] for m in sequences[at]), limit)
    return best


def interval_batchings(users: int) -> Iterator[Batching]:
    """All 2^(K−1) ways to cut K users into intervals."""
    for chosen in range(1 << (users - 1)):
        cuts = [0, *(at for at in range(1, users) if chosen >> (at - 1) & 1), users]
        yield tuple(pairwise(cuts))


def set_partitions(members: Sequence[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """All partitions of a set (Bell's number of them)."""
    if not members:
        yield ()
        return
    first, rest = members[0], members[1:]
    for blocks in set_partitions(rest):
        yield ((first,), *blocks)
        for at, block in enumerate(blocks):
            yield (*blocks[:at], (first, *block), *blocks[at + 1 :])
