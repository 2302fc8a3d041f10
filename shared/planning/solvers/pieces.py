"""An order of many users, cut into pieces that are planned like users: few of them, and none too large for a batch.

Where memory is no limit, pieces have equally many users. Where it is, a piece takes at most a part of what a batch has
room for, so that several pieces go into a batch whatever users need.
"""

from dataclasses import dataclass

import numpy as np

from shared.planning.solvers.arrays import Arrays, Floats, Ints

PIECES = 28  # of an order, about, where memory is no limit
PARTS = 4  # pieces of a full batch, at least, where it is


@dataclass(frozen=True)
class Pieces:
    """Of each order of users, where its pieces begin and the last one ends [orders, pieces + 1]."""

    edges: Ints
    longest: int  # pieces of a batch at most

    @classmethod
    def of(cls, arrays: Arrays, orders: Ints) -> "Pieces":
        """Of orders of users, [orders, M]."""
        users = len(arrays)
        each = max(1, min(-(-users // PIECES), users // arrays.bounds.min_batches))
        if _part(arrays, each * arrays.count.max(), arrays.prefix.max(), each * arrays.count.max()) <= 1 / PARTS:
            count = -(-users // each)
            edges = np.tile(np.linspace(0, users, count + 1).astype(np.int64), (len(orders), 1))
        else:
            edges = _cut(arrays, orders, each)
        return cls(edges, _longest(arrays, orders, edges))

    @property
    def count(self) -> int:
        """Pieces of an order."""
        return self.edges.shape[1] - 1

    @property
    def starts(self) -> Ints:
        """Where pieces begin, [orders, pieces]."""
        return self.edges[:, :-1]


def _part(arrays: Arrays, users: Floats, prefix: Floats, prefixes_of_users: Floats) -> Floats:
    ...
