"""Graphs of batches for the solvers: a chain, a line of cuts, the lattice of placed users."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from shared.planning.solvers.arrays.problem_arrays import Floats, Ints
from shared.planning.solvers.branch_and_bound.paths import Graph


@dataclass(frozen=True)
class Groups:
    """Groups of members, end to end, and where each group begins and ends."""

    members: Ints
    starts: Ints
    ends: Ints

    @classmethod
    def of(cls, groups: list[Ints]) -> "Groups":
        """From groups, none of them empty."""
        ends = np.cumsum([len(group) for group in groups])
        return cls(np.concatenate(groups), np.append(0, ends[:-1]), ends)

    def __getitem__(self, group: int) -> Ints:
        return self.members[self.starts[group] : self.ends[group]]


def chain(batches: int) -> Graph:
    """The graph of given batches, one after another."""
    nodes = np.arange(batches)
    return Graph(nodes, nodes + 1, nodes, batches)


@lru_cache(maxsize=16)
def line(pieces: int, max_pieces: int, min_batches: int, max_batches: int) -> tuple[Groups, Graph]:
    """Runs of neighbouring pieces, and the graph of cuts of an order of pieces.

    max_pieces: pieces of a run at most. Where the number of batches is bounded, the graph has a layer of nodes for each
    number of batches.
    """
    begin = np.repeat(np.arange(pieces), np.minimum(max_pieces, np.arange(pieces, 0, -1)))
    end = np.arange(len(begin)) - np.searchsorted(begin, begin) + begin + 1
    groups, run = (
        Groups.of([np.arange(a, b) for a, b in zip(begin, end, strict=True)]),
        np.arange(len(begin)),
    )
    if min_batches <= 1 and max_batches >= pieces:
        return groups, Graph(begin, end, run, pieces)
    tails, heads, runs = [], [], []
    # Layer n has the nodes with n batches before them; the last layer also those with more.
    layers = max_batches if max_batches < pieces else min_batches
    last = layers * pieces
    for layer in range(layers):
        further = layer + 1 if max_batches < pieces else min(layer + 1, layers - 1)
        kept = ((end < pieces) & (further < layers)) | ((end == pieces) & (layer + 1 >= min_batches))
        kept &= (begin > 0) if layer else (begin == 0)
        tails.append(layer * pieces + begin[kept])
        heads.append(np.where(end[kept] == pieces, last, further * pieces + end[kept]))
        runs.append(run[kept])
    return groups, Graph(np.concatenate(tails), np.concatenate(heads), np.concatenate(runs), last)


@lru_cache(maxsize=16)
def lattice(counts: tuple[int, ...]) -> tuple[Groups, Floats, Graph]:
    """All batches of classes with these counts of equal users, and the graph of what is placed so far.

    Members are classes. The second result has the number of users that each member stands for. An arc adds a batch with
    at least one user of the first class that still has users. With one user a class, nodes are sets of users.
    """
    unit = np.cumprod(
        [1, *(count + 1 for count in counts)]
    )  # that one user of each class adds to a node's number
    placed = np.arange(unit[-1])[:, None] // unit[:-1] % (np.array(counts) + 1)  # [nodes, classes]
    missing = np.array(counts) - placed
    first = (missing > 0).argmax(axis=1)
    batches = placed[1:]
    fits = batches[:, first].T > 0  # [nodes, batches]
    for user_class in range(len(counts)):
        fits &= batches[:, user_class] <= missing[:, user_class, None]
    tail, batch = np.nonzero(fits)
    owner, member = np.nonzero(batches)
    ends = np.cumsum(np.bincount(owner))
    groups = Groups(member, np.append(0, ends[:-1]), ends)
    graph = Graph(tail, tail + batch + 1, batch, len(placed) - 1)
    return groups, batches[owner, member].astype(np.float64), graph


def lattice_arcs(counts: Sequence[int]) -> float:
    """The approximate number of arcs of the lattice: pairs of placed users and a batch that still fits."""
    return prod((count + 1) * (count + 2) / 2 for count in counts)
