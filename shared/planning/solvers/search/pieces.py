"""An order of many users, cut into pieces that are planned like users: few of them, and none too large for a batch.

Where memory is no limit, pieces have equally many users. Where it is, a piece takes at most a part of what a batch has
room for, so that several pieces go into a batch whatever users need.
"""

import heapq
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shared.planning.cost import Real
from shared.planning.solvers.arrays.problem_arrays import Arrays, Floats, Ints

PIECES = 28  # of an order, about, where memory is no limit
PARTS = range(5, 9)  # pieces of a full batch, where it is: as many as divide its users best
LEAST = 3  # pieces of a full batch, at least, where memory makes but few batches
WASTE = 1.25  # times as many pieces as the best order needs: with more, short prefixes are beside long ones


@dataclass(frozen=True)
class Pieces:
    """Orders of users [orders, M]; of each, where its pieces begin and the last one ends [orders, pieces + 1]."""

    which: Ints  # of the orders given: those that do not waste memory
    edges: Ints
    longest: int  # pieces of a batch at most

    @classmethod
    def of(cls, arrays: Arrays, orders: Ints) -> "Pieces":
        """Of orders of users, [orders, M]."""
        users = len(arrays)
        each = max(1, min(-(-users // PIECES), users // arrays.bounds.min_batches))
        most, prefix = each * arrays.count.max(), arrays.prefix.max()
        part = 1 / (PARTS[-1] if arrays.crowded else LEAST)
        if _full(arrays, most, prefix, most * prefix) <= part:
            edges = np.linspace(0, users, -(-users // each) + 1).astype(np.int64)
            which, edges = np.arange(len(orders)), np.tile(edges, (len(orders), 1))
        else:
            begins = _cut(arrays, orders, each, _parts(arrays))
            many = np.array([len(of) for of in begins])
            which = np.flatnonzero(many <= (WASTE if arrays.crowded else np.inf) * many.min())
            edges = _evened([begins[n] for n in which], users)
        return cls(which, edges, _longest(arrays, orders[which], edges))

    @property
    def count(self) -> int:
        """Pieces of an order."""
        return int(self.edges.shape[1]) - 1


def _full(arrays: Arrays, users: Real, prefix: Real, prefixes: Real) -> Floats:
    """The part of a batch's room that these take."""
    nobody = float(arrays.server.room_bytes(0.0, 0.0, 0.0))
    taken = np.asarray(arrays.server.room_bytes(users, prefix, prefixes)) - nobody
    return np.asarray(taken / (arrays.server.memory_bytes - nobody))


def _parts(arrays: Arrays) -> int:
    """Pieces of a batch, so that pieces of users with a middling prefix fill it best."""
    prefix = float(np.median(arrays.prefix))
    room = 1 / max(1e-9, float(_full(arrays, 1.0, prefix, prefix) * arrays.count.mean()))
    best: int = max(PARTS, key=lambda parts: parts * int(room / parts + 1e-9))
    return best


def _cut(arrays: Arrays, orders: Ints, each: int, parts: int) -> list[list[int]]:
    """Where pieces of up to `each` users begin in each order; a user who takes more than a part is one of its own."""
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
        begin = (_full(arrays, users, prefix, prefixes) > 1 / parts) | (size > each)
        if place == 0 or begin.any():
            begins[:, place] = begin = begin | (place == 0)
            users, size = np.where(begin, count, users), np.where(begin, 1, size)
            prefix, prefixes = np.where(begin, own, prefix), np.where(begin, count * own, prefixes)
    return [np.flatnonzero(of).tolist() for of in begins]


def _evened(begins: list[list[int]], users: int) -> Ints:
    """Edges of equally many pieces of every order: of those with fewer, the largest are halved."""
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


def _longest(arrays: Arrays, orders: Ints, edges: Ints) -> int:
    """Pieces that follow each other and fit into a batch, at most."""
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
        if (_full(arrays, users, prefix, prefixes) > 1).all():
            break
        longest += 1
    return longest
