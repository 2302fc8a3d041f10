"""The joint dynamic programme: users in a suitable order are cut into batches, and batches and lengths chosen together.

Given a cycle bound and a price of a verification millisecond, the worth of a plan is a sum over batches. So one pass of
dynamic programming finds the best cuts of an order of users. Users lose least when they share a batch with users whose
drafts are equally long (rows are padded) and take equally long (the last draft delays the others). Each draft is as
long as the cycle bound affords, without tokens that earn less than their verification costs. All cycle bounds, orders
and prices are computed in one sweep. Large numbers of users are pooled into pieces, each the average of its members.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shared.planning.solvers.arrays.batch_types import Members
from shared.planning.solvers.arrays.options import Batches, approximate_options
from shared.planning.solvers.arrays.problem_arrays import Floats, Ints, ProblemArrays
from shared.planning.solvers.branch_and_bound.cycle_bounds import cycle_bound_range
from shared.planning.solvers.branch_and_bound.graphs import Groups, line
from shared.planning.solvers.branch_and_bound.paths import Graph, counted_paths
from shared.planning.solvers.search.pieces import Pieces

MAX_LAYERED_NODES = (
    3000  # of a graph with a layer for each number of batches; beyond, a batch gets a price instead
)
FINE_BOUNDS = 96  # cycle bounds among which the promising range is found
PRICES = np.array([0.03, 0.3, 0.65, 1.0])  # relative to the value of a millisecond of the cycle
FINE_USERS = 8  # up to so many users all options of a batch are compared, for more about half
SWEEP_MEMBERS = 2000  # members of the runs in one sweep, about: as many as fit into the processor's cache


@dataclass(frozen=True)
class Partition:
    """A partition of the users into batches, with the score and the cycle bound (ms) with which it was found."""

    score: float
    cycle_bound_ms: float
    batches: tuple[Members, ...]


def partitions(
    arrays: ProblemArrays, cycle_bounds: Floats, score: float, shares: Sequence[float]
) -> Iterator[Partition]:
    """Promising partitions of the users, best first.

    cycle_bounds: to try, in ms. score: of some plan, which sets the prices. shares: prices at which users are ordered,
    relative to the value of a millisecond of the cycle.
    """
    tried_bounds, prices, orders = _orders_to_try(arrays, cycle_bounds, score, shares)
    pieces = Pieces.of(arrays, orders)
    tried_bounds, prices, orders = tried_bounds[pieces.which], prices[pieces.which], orders[pieces.which]
    segments, graph, (min_batches, max_batches) = _cuts(arrays, pieces)
    sweeps = np.array_split(
        np.arange(len(orders)), min(len(orders), -(-len(orders) * len(segments.members) // SWEEP_MEMBERS))
    )
    swept = [
        _segment_options(arrays, orders[part], pieces.edges[part], segments, tried_bounds[part], prices[part])
        for part in sweeps
    ]
    value, time = (np.concatenate([part[n] for part in swept]) for n in (0, 1))  # [tries, P, segments]
    worth = value - prices[:, :, None] * time
    shape = (-1, value.shape[2])
    paths = counted_paths(graph, worth.reshape(shape).T, min_batches, max_batches)  # [tries · P, batches]
    row, there = np.arange(len(paths))[:, None], paths >= 0
    values, times = (np.where(there, of.reshape(shape)[row, paths], 0.0).sum(axis=1) for of in (value, time))
    scores = arrays.scores(values, times, np.repeat(tried_bounds, len(PRICES)))
    scores[~there.any(axis=1)] = -np.inf
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] == -np.inf:
            return
        which, path = index // len(PRICES), paths[index][there[index]]
        cuts = pieces.edges[which][np.append(0, np.cumsum(segments.ends[path] - segments.starts[path]))]
        order = orders[which].tolist()
        batches = tuple(tuple(sorted(order[a:b])) for a, b in pairwise(cuts.tolist()))
        yield Partition(float(scores[index]), float(tried_bounds[which]), batches)


def promising_cycle_bounds(arrays: ProblemArrays, score: float) -> tuple[float, float]:
    """The range of cycle bounds (ms) in which a plan may reach this score.

    Every user is assumed to be verified alone, at no cost.
    """
    cycle_bounds = np.geomspace(*cycle_bound_range(arrays), FINE_BOUNDS)
    slack = cycle_bounds - arrays.solo_verify_ms[0][:, None]
    drafts = np.maximum(arrays.affordable_lengths(np.arange(len(arrays)), slack), arrays.bounds.min_draft)
    value = (np.take_along_axis(arrays.value, drafts, axis=1) * arrays.count[:, None]).sum(axis=0)
    reachable = np.flatnonzero(arrays.scores(value, np.zeros(FINE_BOUNDS), cycle_bounds) >= score)
    if len(reachable) == 0:
        return float(cycle_bounds[0]), float(cycle_bounds[-1])
    return float(cycle_bounds[reachable[0]]), float(cycle_bounds[min(reachable[-1] + 1, FINE_BOUNDS - 1)])


def _segment_options(
    arrays: ProblemArrays, orders: Ints, edges: Ints, segments: Groups, cycle_bounds: Floats, prices: Floats
) -> tuple[Floats, Floats]:
    """Value and verification time of the best option of each run of pieces, [tries, P, segments]."""
    tries, count = len(orders), edges.shape[1] - 1
    each = np.arange(tries)[:, None]
    pooled = arrays.pooled(orders.ravel(), (edges[:, :-1] + each * len(arrays)).ravel())
    members = (segments.members + each * count).ravel()
    starts = (segments.starts + each * len(segments.members)).ravel()
    options = approximate_options(
        Batches(pooled, members, starts),
        np.repeat(cycle_bounds, len(segments.starts)),
        coarse=len(arrays) > FINE_USERS,
    )
    rows = options.values.shape[0]
    values, verify = options.values, options.verify_ms
    each_price = np.repeat(prices, len(segments.starts), axis=0).T  # [P, rows]
    option = (values - each_price[:, :, None] * verify).argmax(axis=2)
    value, time = (of[np.arange(rows), option].reshape(len(PRICES), tries, -1) for of in (values, verify))
    return value.transpose(1, 0, 2), time.transpose(1, 0, 2)


def _orders_to_try(
    arrays: ProblemArrays, cycle_bounds: Floats, score: float, shares: Sequence[float]
) -> tuple[Floats, Floats, Ints]:
    """Cycle bounds [tries], prices [tries, P] and orders of users [tries, M]: the distinct orders of each bound."""
    price = np.array(
        [
            arrays.objective.price(score, arrays.total_weight, float(cycle_bound))
            for cycle_bound in cycle_bounds
        ]
    )
    orders = _orders(arrays, cycle_bounds, price, shares)
    kept = [
        (n, index)
        for n, mine in enumerate(orders)
        for index in {order.tobytes(): index for index, order in enumerate(mine)}.values()
    ]
    which, index = np.array(kept).T
    return cycle_bounds[which], price[which, None] * PRICES, orders[which, index]


def _orders(arrays: ProblemArrays, cycle_bounds: Floats, price: Floats, shares: Sequence[float]) -> Ints:
    """Orders of users [cycle_bounds, orders, M].

    Users are sorted by the draft that they would send if they were alone within the cycle bound, at a share of the
    price; and by the time that this draft takes.
    """
    alone, longer = arrays.solo_verify_ms
    afforded = (cycle_bounds[:, None] - alone - arrays.comm_ms) / arrays.draft_ms  # [cycle_bounds, M]
    min_draft, max_draft = arrays.bounds.min_draft, arrays.bounds.max_draft
    gain = np.diff(arrays.value[:, min_draft : max_draft + 1], axis=1)
    orders = []
    for share in shares:
        needed = share * price[:, None] * (longer - alone)  # [cycle_bounds, M]
        worthwhile_length = min_draft + (gain > needed[:, :, None]).sum(axis=2)
        length = np.maximum(np.minimum(np.floor(afforded), worthwhile_length), min_draft)
        ready = length * arrays.draft_ms + arrays.comm_ms
        prefix = np.broadcast_to(arrays.prefix, ready.shape)
        if not arrays.packed:
            orders.append(np.lexsort((ready, prefix, length)))
            if arrays.memory_bound and np.ptp(arrays.prefix) > 0:
                orders.append(np.lexsort((ready, length, prefix)))
        orders.append(np.lexsort((prefix, ready)))
    return np.stack(orders, axis=1)


def _cuts(arrays: ProblemArrays, pieces: Pieces) -> tuple[Groups, Graph, tuple[int, int]]:
    """Runs of pieces, the graph of cuts, and the bounds on the number of batches that the graph does not enforce."""
    count = pieces.count
    min_batches, max_batches = arrays.bounds.min_batches, min(arrays.max_batches, count)
    if min_batches <= -(-count // pieces.max_per_batch):
        min_batches = 1  # memory requires as many anyway
    if count * (max_batches if max_batches < count else min_batches) <= MAX_LAYERED_NODES:
        return *line(count, pieces.max_per_batch, min_batches, max_batches), (1, count)
    return *line(count, pieces.max_per_batch, 1, count), (min_batches, max_batches)
