"""The graphs of batches that solvers search: a chain, a line of cuts, the lattice of sets."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from shared.planning.solvers.arrays import Ints
from shared.planning.solvers.paths import Graph


@dataclass(frozen=True)
class Groups:
    """What batches consist of: members laid end to end, and where each begins and ends."""

    members: Ints
    starts: Ints
    ends: Ints

    @classmethod
    def of(cls, groups: list[Ints]) -> "Groups":
        """Of groups, none empty."""
        ends = np.cumsum([len(group) for group in groups])
        return cls(np.concatenate(groups), np.append(0, ends[:-1]), ends)

    def __getitem__(self, group: int) -> Ints:
        return self.members[self.starts[group] : self.ends[group]]


def chain(batches: int) -> Graph:
    """Given batches, one after another."""
    nodes = np.arange(batches)
    return Graph(nodes, nodes + 1, nodes, batches)


@lru_cache(maxsize=16)
def line(pieces: int, longest: int, least: int, most: int) -> tuple[Groups, Graph]:
    """Runs of neighbours, and the graph of cuts; with a layer for each count of batches where that is bounded.

    longest: pieces of a run at most. least, most: batches.
    """
    begin, end = np.triu_indices(pieces)
    begin, end = begin[end - begin < longest], end[end - begin < longest] + 1
    groups, which = (
        Groups.of([np.arange(a, b) for a, b in zip(begin, end, strict=True)]),
        np.arange(len(begin)),
    )
    if least <= 1 and most >= pieces:
        return groups, Graph(begin, end, which, pieces)
    tails, heads, batch = [], [], []
    last = most * pieces
    for layer in range(most):
        kept = ((end < pieces) & (layer + 1 < most)) | ((end == pieces) & (layer + 1 >= least))
        kept &= (begin > 0) if layer else (begin == 0)
        tails.append(layer * pieces + begin[kept])
        heads.append(np.where(end[kept] == pieces, last, (layer + 1) * pieces + end[kept]))
        batch.append(which[kept])
    return groups, Graph(np.concatenate(tails), np.concatenate(heads), np.concatenate(batch), last)


@lru_cache(maxsize=4)
def lattice(users: int) -> tuple[Groups, Graph]:
    """All non-empty sets of users, and the graph of sets, where an arc adds one with the first user still missing."""
    everyone = (1 << users) - 1
    masks = np.arange(1, everyone + 1)
    sets = [np.flatnonzero(mask >> np.arange(users) & 1) for mask in masks]
    tails, heads, added = [], [], []
    for mask in range(everyone):
        first = ~mask & (mask + 1)  # lowest missing user
        batches = masks[(masks & mask == 0) & (masks & first != 0)]
        tails.append(np.full(len(batches), mask))
        heads.append(mask | batches)
        added.append(batches - 1)
    graph = Graph(np.concatenate(tails), np.concatenate(heads), np.concatenate(added), everyone)
    return Groups.of(sets), graph
