"""Many equal users planned as few: one portion of them is planned, and its batches are copied.

Where memory makes many batches, most of them will be alike. So users of every kind are dealt out to equal portions, as
many as leave each portion some batches; in a portion equal users stand together as units, of which there are few. A
portion of the most users that any gets is planned; what others have fewer is missing from their batches.
"""

from dataclasses import dataclass

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.problem_arrays import Ints, ProblemArrays

UNITS_PER_SHARD = 500  # of a portion, about
MIN_REDUCTION = 3  # times as many users are worth to be made fewer
BATCHES_PER_SHARD = range(
    16, 49
)  # of a portion, where memory makes more: at least, and at most where users divide better then
UNITS_PER_BATCH = 6  # units of a full batch, at least


@dataclass(frozen=True)
class Shard:
    """One of `arrays.copies` portions, with units for users; of every user, its portion and its unit there."""

    arrays: ProblemArrays
    shard_of: Ints
    unit_of: Ints

    @classmethod
    def of(cls, arrays: ProblemArrays) -> "Shard | None":
        """None where there are not many users, or few are equal to others."""
        if arrays.class_of is None or len(arrays) < MIN_REDUCTION * UNITS_PER_SHARD:
            return None
        firsts, class_of, counts = np.unique(arrays.class_of, return_inverse=True, return_counts=True)
        users_per_batch = _users_per_batch(arrays, firsts)
        copies = _copies(arrays, counts, users_per_batch)
        each = -(-counts // copies)  # users of each kind in a portion, at most
        units = -(
            -each
            // max(1, min(int(each.sum()) // UNITS_PER_SHARD, int(users_per_batch.min()) // UNITS_PER_BATCH))
        )
        if MIN_REDUCTION * units.sum() > len(arrays) or arrays.bounds.min_batches > units.sum():
            return None
        unit_kind = np.repeat(np.arange(len(firsts)), units)
        nth = np.arange(len(unit_kind)) - np.repeat(np.cumsum(units) - units, units)
        count = each[unit_kind] // units[unit_kind] + (nth < each[unit_kind] % units[unit_kind])
        shard_of, place = _assignment(class_of, counts, each, copies)
        unit_of = np.repeat(np.arange(len(count)), count)[place]
        return cls(
            arrays.representing(firsts[unit_kind], count.astype(np.float64), copies), shard_of, unit_of
        )

    def expand(self, split: Split) -> Split:
        """All users' plan from a portion's."""
        batch = np.empty(len(self.arrays), dtype=np.int64)  # of each unit
        for n, units in enumerate(split.batches):
            batch[list(units)] = n
        key = self.shard_of * len(split.batches) + batch[self.unit_of]
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order])) + 1
        batches = tuple(tuple(users.tolist()) for users in np.split(order, edges))
        return Split(batches, tuple(np.array(split.lengths)[self.unit_of].tolist()))


def _users_per_batch(arrays: ProblemArrays, firsts: Ints) -> Ints:
    """Users of each kind that fit into a batch."""
    size, prefix = np.arange(1.0, len(arrays) + 1), arrays.prefix[firsts][:, None]
    needed = np.asarray(arrays.server.needed_bytes(size, prefix, size * prefix))
    fits = np.broadcast_to(needed <= arrays.server.memory_bytes, (len(firsts), len(arrays)))
    return np.asarray(np.maximum(fits.sum(axis=1), 1))


def _copies(arrays: ProblemArrays, counts: Ints, users_per_batch: Ints) -> int:
    """Portions: one, unless memory makes many batches and nothing else says how many there may be."""
    batches = float((counts / users_per_batch).sum())
    counted = arrays.bounds.min_batches > 1 or arrays.bounds.max_batches is not None
    if counted or batches < 2 * BATCHES_PER_SHARD[0]:
        return 1
    candidates = range(-(-int(batches) // BATCHES_PER_SHARD[-1]), int(batches) // BATCHES_PER_SHARD[0] + 1)
    return min(candidates, key=lambda copies: (int((-counts % copies).sum()), -copies))


def _assignment(class_of: Ints, counts: Ints, each: Ints, copies: int) -> tuple[Ints, Ints]:
    """Of every user: its portion, and its place among a portion's users, who stand kind by kind.

    Who is dealt last of a kind is followed by the next kind's first, so that portions differ little.
    """
    order = np.argsort(class_of, kind="stable")
    nth = np.empty(len(class_of), dtype=np.int64)
    nth[order] = np.arange(len(class_of)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (nth + (np.cumsum(counts) - counts)[class_of]) % copies, (np.cumsum(each) - each)[
        class_of
    ] + nth // copies
