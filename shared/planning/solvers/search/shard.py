"""Many equal users planned as few: one portion of them is planned, and its batches are copied.

Where memory makes many batches, most of them will be alike. So users of every kind are dealt out to equal portions, as
many as leave each portion some batches; in a portion equal users stand together as units, of which there are few. A
portion of the most users that any gets is planned; what others have fewer is missing from their batches.
"""

from dataclasses import dataclass

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.problem_arrays import Arrays, Ints

UNITS = 500  # of a portion, about
MANY = 3  # times as many users are worth to be made fewer
BATCHES = range(
    16, 49
)  # of a portion, where memory makes more: at least, and at most where users divide better then
GRAIN = 6  # units of a full batch, at least


@dataclass(frozen=True)
class Portion:
    """One of `arrays.copies` portions, with units for users; of every user, its portion and its unit there."""

    arrays: Arrays
    copy: Ints
    unit: Ints

    @classmethod
    def of(cls, arrays: Arrays) -> "Portion | None":
        """None where there are not many users, or few are equal to others."""
        if arrays.kind is None or len(arrays) < MANY * UNITS:
            return None
        firsts, kind, many = np.unique(arrays.kind, return_inverse=True, return_counts=True)
        room = _room(arrays, firsts)
        copies = _copies(arrays, many, room)
        each = -(-many // copies)  # users of each kind in a portion, at most
        units = -(-each // max(1, min(int(each.sum()) // UNITS, int(room.min()) // GRAIN)))
        if MANY * units.sum() > len(arrays) or arrays.bounds.min_batches > units.sum():
            return None
        unit_kind = np.repeat(np.arange(len(firsts)), units)
        nth = np.arange(len(unit_kind)) - np.repeat(np.cumsum(units) - units, units)
        count = each[unit_kind] // units[unit_kind] + (nth < each[unit_kind] % units[unit_kind])
        copy, place = _dealt(kind, many, each, copies)
        unit = np.repeat(np.arange(len(count)), count)[place]
        return cls(arrays.standing(firsts[unit_kind], count.astype(np.float64), copies), copy, unit)

    def everybody(self, split: Split) -> Split:
        """All users' plan from a portion's."""
        batch = np.empty(len(self.arrays), dtype=np.int64)  # of each unit
        for n, units in enumerate(split.batches):
            batch[list(units)] = n
        key = self.copy * len(split.batches) + batch[self.unit]
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order])) + 1
        batches = tuple(tuple(users.tolist()) for users in np.split(order, edges))
        return Split(batches, tuple(np.array(split.lengths)[self.unit].tolist()))


def _room(arrays: Arrays, firsts: Ints) -> Ints:
    """Users of each kind that fit into a batch."""
    size, prefix = np.arange(1.0, len(arrays) + 1), arrays.prefix[firsts][:, None]
    room = np.asarray(arrays.server.room_bytes(size, prefix, size * prefix))
    fits = np.broadcast_to(room <= arrays.server.memory_bytes, (len(firsts), len(arrays)))
    return np.asarray(np.maximum(fits.sum(axis=1), 1))


def _copies(arrays: Arrays, many: Ints, room: Ints) -> int:
    """Portions: one, unless memory makes many batches and nothing else says how many there may be."""
    batches = float((many / room).sum())
    counted = arrays.bounds.min_batches > 1 or arrays.bounds.max_batches is not None
    if counted or batches < 2 * BATCHES[0]:
        return 1
    likely = range(-(-int(batches) // BATCHES[-1]), int(batches) // BATCHES[0] + 1)
    return min(likely, key=lambda copies: (int((-many % copies).sum()), -copies))


def _dealt(kind: Ints, many: Ints, each: Ints, copies: int) -> tuple[Ints, Ints]:
    """Of every user: its portion, and its place among a portion's users, who stand kind by kind.

    Who is dealt last of a kind is followed by the next kind's first, so that portions differ little.
    """
    order = np.argsort(kind, kind="stable")
    nth = np.empty(len(kind), dtype=np.int64)
    nth[order] = np.arange(len(kind)) - np.repeat(np.cumsum(many) - many, many)
    return (nth + (np.cumsum(many) - many)[kind]) % copies, (np.cumsum(each) - each)[kind] + nth // copies
