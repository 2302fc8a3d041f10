"""Batches and lengths together: users in a good order, cut into batches by dynamic programming.

Given a cap on every loop and a price of a verify millisecond, a plan's worth is a sum over batches, so the best cuts
of an order are one pass of dynamic programming. Users lose least by sharing a batch with those who draft equally far
(rows are padded) and equally long (the last one's draft holds up the others), each as far as the cap affords, but no
token that earns less than its verification costs. All caps, orders and prices are computed in one sweep. More than
some users are pooled into pieces, each as its members are on average.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shared.planning.solvers.arrays.batch_types import Members
from shared.planning.solvers.arrays.options import Batches, quick
from shared.planning.solvers.arrays.problem_arrays import Arrays, Floats, Ints
from shared.planning.solvers.branch_and_bound.cycle_bounds import cap_range
from shared.planning.solvers.branch_and_bound.graphs import Groups, line
from shared.planning.solvers.branch_and_bound.paths import Graph, counted_paths
from shared.planning.solvers.search.pieces import Pieces

LAYERED = (
    3000  # nodes of a graph that keeps a count of batches; larger ones are searched at prices on a batch
)
FINE = 96  # caps of which the promising ones are found
PRICES = np.array([0.03, 0.3, 0.65, 1.0])  # of what a millisecond of the cycle is worth
FINE_USERS = 8  # up to whom all options of a batch are looked at, and not about half
SWEEP = 2000  # members of the runs of a sweep, about: as many as the processor's cache holds


@dataclass(frozen=True)
class Partition:
    """Batches of users, the score that they had where they were found, and the cap there (ms)."""

    score: float
    cap_ms: float
    batches: tuple[Members, ...]


def partitions(arrays: Arrays, caps: Floats, score: float, shares: Sequence[float]) -> Iterator[Partition]:
    """Promising ways to split users into batches, best first.

    caps: ms, to look at. score: some plan's, for prices. shares: of what a millisecond of the cycle is worth, the
    prices at which users are ordered.
    """
    try_caps, prices, orders = _tries(arrays, caps, score, shares)
    pieces = Pieces.of(arrays, orders)
    try_caps, prices, orders = try_caps[pieces.which], prices[pieces.which], orders[pieces.which]
    segments, graph, (least, most) = _cuts(arrays, pieces)
    sweeps = np.array_split(
        np.arange(len(orders)), min(len(orders), -(-len(orders) * len(segments.members) // SWEEP))
    )
    found = [
        _choose(arrays, orders[part], pieces.edges[part], segments, try_caps[part], prices[part])
        for part in sweeps
    ]
    value, time = (np.concatenate([part[n] for part in found]) for n in (0, 1))  # [tries, P, segments]
    worth = value - prices[:, :, None] * time
    shape = (-1, value.shape[2])
    paths = counted_paths(graph, worth.reshape(shape).T, least, most)  # [tries · P, batches]
    row, there = np.arange(len(paths))[:, None], paths >= 0
    values, times = (np.where(there, of.reshape(shape)[row, paths], 0.0).sum(axis=1) for of in (value, time))
    scores = arrays.scores(values, times, np.repeat(try_caps, len(PRICES)))
    scores[~there.any(axis=1)] = -np.inf
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] == -np.inf:
            return
        which, path = index // len(PRICES), paths[index][there[index]]
        cuts = pieces.edges[which][np.append(0, np.cumsum(segments.ends[path] - segments.starts[path]))]
        order = orders[which].tolist()
        batches = tuple(tuple(sorted(order[a:b])) for a, b in pairwise(cuts.tolist()))
        yield Partition(float(scores[index]), float(try_caps[which]), batches)


def promising_caps(arrays: Arrays, score: float) -> tuple[float, float]:
    """Of all caps, those within which a plan might score this much: as if every user were verified alone, and free."""
    caps = np.geomspace(*cap_range(arrays), FINE)
    slack = caps - arrays.alone_ms[0][:, None]
    drafts = np.maximum(arrays.drafts(np.arange(len(arrays)), slack), arrays.bounds.min_draft)
    value = (np.take_along_axis(arrays.value, drafts, axis=1) * arrays.count[:, None]).sum(axis=0)
    likely = np.flatnonzero(arrays.scores(value, np.zeros(FINE), caps) >= score)
    if len(likely) == 0:
        return float(caps[0]), float(caps[-1])
    return float(caps[likely[0]]), float(caps[min(likely[-1] + 1, FINE - 1)])


def _choose(
    arrays: Arrays, orders: Ints, edges: Ints, segments: Groups, caps: Floats, prices: Floats
) -> tuple[Floats, Floats]:
    """Value and time of the best option of every run of pieces, [tries, P, segments]."""
    tries, count = len(orders), edges.shape[1] - 1
    each = np.arange(tries)[:, None]
    pooled = arrays.pooled(orders.ravel(), (edges[:, :-1] + each * len(arrays)).ravel())
    members = (segments.members + each * count).ravel()
    starts = (segments.starts + each * len(segments.members)).ravel()
    options = quick(
        Batches(pooled, members, starts),
        np.repeat(caps, len(segments.starts)),
        coarse=len(arrays) > FINE_USERS,
    )
    rows = options.values.shape[0]
    values, verify = options.values, options.verify_ms
    each_price = np.repeat(prices, len(segments.starts), axis=0).T  # [P, rows]
    option = (values - each_price[:, :, None] * verify).argmax(axis=2)
    value, time = (of[np.arange(rows), option].reshape(len(PRICES), tries, -1) for of in (values, verify))
    return value.transpose(1, 0, 2), time.transpose(1, 0, 2)


def _tries(
    arrays: Arrays, caps: Floats, score: float, shares: Sequence[float]
) -> tuple[Floats, Floats, Ints]:
    """Caps, prices [tries, P] and orders of users [tries, M]: for every cap the orders that differ."""
    price = np.array([arrays.objective.price(score, arrays.all_weight, float(cap)) for cap in caps])
    orders = _orders(arrays, caps, price, shares)
    kept = [
        (n, index)
        for n, mine in enumerate(orders)
        for index in {order.tobytes(): index for index, order in enumerate(mine)}.values()
    ]
    which, index = np.array(kept).T
    return caps[which], price[which, None] * PRICES, orders[which, index]


def _orders(arrays: Arrays, caps: Floats, price: Floats, shares: Sequence[float]) -> Ints:
    """Orders of users, [caps, orders, M].

    By the draft they would send if alone within the cap, at some share of the price; and by how long that takes them.
    """
    alone, longer = arrays.alone_ms
    afforded = (caps[:, None] - alone - arrays.comm_ms) / arrays.draft_ms  # [caps, M]
    least, most = arrays.bounds.min_draft, arrays.bounds.max_draft
    gain = np.diff(arrays.value[:, least : most + 1], axis=1)
    found = []
    for share in shares:
        needed = share * price[:, None] * (longer - alone)  # [caps, M]
        wished = least + (gain > needed[:, :, None]).sum(axis=2)
        length = np.maximum(np.minimum(np.floor(afforded), wished), least)
        ready = length * arrays.draft_ms + arrays.comm_ms
        prefix = np.broadcast_to(arrays.prefix, ready.shape)
        if not arrays.packed:
            found.append(np.lexsort((ready, prefix, length)))
            if arrays.crowded and np.ptp(arrays.prefix) > 0:
                found.append(np.lexsort((ready, length, prefix)))
        found.append(np.lexsort((prefix, ready)))
    return np.stack(found, axis=1)


def _cuts(arrays: Arrays, pieces: Pieces) -> tuple[Groups, Graph, tuple[int, int]]:
    """Runs of pieces and the graph of cuts; and how many batches a path may have where the graph does not see to it."""
    count = pieces.count
    least, most = arrays.bounds.min_batches, min(arrays.max_batches, count)
    if least <= -(-count // pieces.longest):
        least = 1  # memory makes as many
    if count * (most if most < count else least) <= LAYERED:
        return *line(count, pieces.longest, least, most), (1, count)
    return *line(count, pieces.longest, 1, count), (least, most)
