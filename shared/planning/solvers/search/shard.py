"""Shards: many equal users are planned as one of several equal shards, whose batches are copied.

Where memory requires many batches, most of them are alike. So the users of each class are distributed to equal shards,
as many as leave each shard some batches. Within a shard, equal users are joined into units, of which there are few. The
planned shard has as many users of each class as the largest shard; users that other shards lack are missing from their
batches.
"""

from dataclasses import dataclass

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.problem_arrays import Ints, ProblemArrays

UNITS_PER_SHARD = 500  # about
MIN_REDUCTION = 3  # users divided by units, below which shards do not pay
BATCHES_PER_SHARD = range(
    16, 49
)  # where memory requires more; the number that divides the users best is taken
UNITS_PER_BATCH = 6  # of a full batch at least


@dataclass(frozen=True)
class Shard:
    """One of `arrays.copies` equal shards.

    arrays: its units, as users that stand for several. shard_of: the shard of each user. unit_of: the unit of each user
    within its shard.
    """

    arrays: ProblemArrays
    shard_of: Ints
    unit_of: Ints

    @classmethod
    def of(cls, arrays: ProblemArrays) -> "Shard | None":
        """The shard of these users; None where there are too few users or too few equal ones."""
        if arrays.class_of is None or len(arrays) < MIN_REDUCTION * UNITS_PER_SHARD:
            return None
        firsts, class_of, counts = np.unique(arrays.class_of, return_inverse=True, return_counts=True)
        users_per_batch = _users_per_batch(arrays, firsts)
        copies = _copies(arrays, counts, users_per_batch)
        each = -(-counts // copies)  # users of each class in a shard, at most
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
        """The plan of all users from a plan of the shard."""
        batch = np.empty(len(self.arrays), dtype=np.int64)  # of each unit
        for n, units in enumerate(split.batches):
            batch[list(units)] = n
        key = self.shard_of * len(split.batches) + batch[self.unit_of]
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order])) + 1
        batches = tuple(tuple(users.tolist()) for users in np.split(order, edges))
        return Split(batches, tuple(np.array(split.lengths)[self.unit_of].tolist()))


def _users_per_batch(arrays: ProblemArrays, firsts: Ints) -> Ints:
    """The number of users of each class that fit into a batch."""
    size, prefix = np.arange(1.0, len(arrays) + 1), arrays.prefix[firsts][:, None]
    needed = np.asarray(arrays.server.needed_bytes(size, prefix, size * prefix))
    fits = np.broadcast_to(needed <= arrays.server.memory_bytes, (len(firsts), len(arrays)))
    return np.asarray(np.maximum(fits.sum(axis=1), 1))


def _copies(arrays: ProblemArrays, counts: Ints, users_per_batch: Ints) -> int:
    """The number of shards: one, unless memory requires many batches and the query does not bound their number."""
    batches = float((counts / users_per_batch).sum())
    counted = arrays.bounds.min_batches > 1 or arrays.bounds.max_batches is not None
    if counted or batches < 2 * BATCHES_PER_SHARD[0]:
        return 1
    candidates = range(-(-int(batches) // BATCHES_PER_SHARD[-1]), int(batches) // BATCHES_PER_SHARD[0] + 1)
    return min(candidates, key=lambda copies: (int((-counts % copies).sum()), -copies))


def _assignment(class_of: Ints, counts: Ints, each: Ints, copies: int) -> tuple[Ints, Ints]:
    """The shard of each user, and its place among the users of a shard, which are sorted by class.

    Users are distributed in turn. Each class continues where the last one ended, so that shard sizes differ by one.
    """
    order = np.argsort(class_of, kind="stable")
    nth = np.empty(len(class_of), dtype=np.int64)
    nth[order] = np.arange(len(class_of)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (nth + (np.cumsum(counts) - counts)[class_of]) % copies, (np.cumsum(each) - each)[
        class_of
    ] + nth // copies
