"""Pieces: an order of many users cut into few pieces that are planned like users.

Without a memory limit, pieces have equally many users. With one, a piece takes at most a fraction of the memory of a
batch, so that several pieces fit into a batch whatever the prefixes are.
"""

import heapq
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shared.planning.cost import Real
from shared.planning.solvers.arrays.problem_arrays import Floats, Ints, ProblemArrays

PIECES = 28  # of an order, about, without a memory limit
PARTS = range(
    5, 9
)  # pieces of a full batch, with a memory limit; the number that fills a batch best is taken
MIN_PARTS = 3  # pieces of a full batch where memory requires only a few batches
MAX_EXTRA_PIECES = (
    1.25  # times the pieces of the best order; orders with more put short prefixes beside long ones
)


@dataclass(frozen=True)
class Pieces:
    """Pieces of some orders of users.

    which: the orders that are kept, because they do not waste memory. edges: where the pieces of each kept order begin,
    and where the last one ends [orders, pieces + 1]. max_per_batch: pieces of a batch.
    """

    which: Ints
    edges: Ints
    max_per_batch: int

    @classmethod
    def of(cls, arrays: ProblemArrays, orders: Ints) -> "Pieces":
        """The pieces of orders of users [orders, M]."""
        users = len(arrays)
        each = max(1, min(-(-users // PIECES), users // arrays.bounds.min_batches))
        max_users, prefix = each * arrays.count.max(), arrays.prefix.max()
        part = 1 / (PARTS[-1] if arrays.memory_bound else MIN_PARTS)
        if _memory_share(arrays, max_users, prefix, max_users * prefix) <= part:
            edges = np.linspace(0, users, -(-users // each) + 1).astype(np.int64)
            which, edges = np.arange(len(orders)), np.tile(edges, (len(orders), 1))
        else:
            begins = _cut(arrays, orders, each, _pieces_per_batch(arrays))
            counts = np.array([len(of) for of in begins])
            which = np.flatnonzero(
                counts <= (MAX_EXTRA_PIECES if arrays.memory_bound else np.inf) * counts.min()
            )
            edges = _equalised([begins[n] for n in which], users)
        return cls(which, edges, _max_per_batch(arrays, orders[which], edges))

    @property
    def count(self) -> int:
        """The number of pieces of an order."""
        return int(self.edges.shape[1]) - 1


def _memory_share(arrays: ProblemArrays, users: Real, prefix: Real, prefixes: Real) -> Floats:
    """The share of the memory of a batch that these users take."""
    empty = float(arrays.server.needed_bytes(0.0, 0.0, 0.0))
    taken = np.asarray(arrays.server.needed_bytes(users, prefix, prefixes)) - empty
    return np.asarray(taken / (arrays.server.memory_bytes - empty))


def _pieces_per_batch(arrays: ProblemArrays) -> int:
    """The number of pieces of a batch with which users with the median prefix fill it best."""
    prefix = float(np.median(arrays.prefix))
    users_per_batch = 1 / max(1e-9, float(_memory_share(arrays, 1.0, prefix, prefix) * arrays.count.mean()))
    best: int = max(PARTS, key=lambda parts: parts * int(users_per_batch / parts + 1e-9))
    return best


def _cut(arrays: ProblemArrays, orders: Ints, each: int, parts: int) -> list[list[int]]:
    """Where pieces of up to `each` users begin in each order. A user larger than a part is a piece by itself."""
    users, prefix, prefixes, size = np.zeros((4, len(orders)))
    begins = np.zeros(orders.shape, dtype=np.bool_)
    for place, user in enumerate(orders.T):
        count, own = arrays.count[user], arrays.prefix[user]
        users, size, prefixes, prefix = (
            users + count,
            size + 1,
            prefixes + count * own,
            np.maximum(prefix, own),
        )
        begin = (_memory_share(arrays, users, prefix, prefixes) > 1 / parts) | (size > each)
        if place == 0 or begin.any():
            begins[:, place] = begin = begin | (place == 0)
            users, size = np.where(begin, count, users), np.where(begin, 1, size)
            prefix, prefixes = np.where(begin, own, prefix), np.where(begin, count * own, prefixes)
    return [np.flatnonzero(of).tolist() for of in begins]


def _equalised(begins: list[list[int]], users: int) -> Ints:
    """Edges of equally many pieces in every order: where there are fewer, the largest pieces are halved."""
    count = max(map(len, begins))
    edges = []
    for begin in begins:
        waiting = [(low - high, low, high) for low, high in pairwise([*begin, users])]
        heapq.heapify(waiting)
        while len(waiting) < count:
            _, low, high = heapq.heappop(waiting)
            middle = (low + high) // 2
            heapq.heappush(waiting, (low - middle, low, middle))
            heapq.heappush(waiting, (middle - high, middle, high))
        edges.append([*sorted(low for _, low, _ in waiting), users])
    return np.array(edges)


def _max_per_batch(arrays: ProblemArrays, orders: Ints, edges: Ints) -> int:
    """The maximum number of consecutive pieces that fit into a batch."""
    starts = (edges[:, :-1] + np.arange(len(orders))[:, None] * orders.shape[1]).ravel()
    count, own = arrays.count[orders.ravel()], arrays.prefix[orders.ravel()]
    shape = (len(orders), -1)
    each = [np.add.reduceat(of, starts).reshape(shape) for of in (count, count * own)]
    highest = np.maximum.reduceat(own, starts).reshape(shape)
    users, prefixes, prefix = *each, highest
    longest = 1
    while longest < highest.shape[1]:
        users, prefixes = users[:, :-1] + each[0][:, longest:], prefixes[:, :-1] + each[1][:, longest:]
        prefix = np.maximum(prefix[:, :-1], highest[:, longest:])
        if (_memory_share(arrays, users, prefix, prefixes) > 1).all():
            break
        longest += 1
    return longest
