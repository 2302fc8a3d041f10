"""Plans as paths: a graph whose arcs are batches, and the best paths through it.

A node stands for the users already placed: node 0 for none, the last node for all. An arc adds one batch. Given batches
are a chain. Contiguous groups of sorted users are a line with arcs between any two nodes. All partitions are the
lattice of subsets. Within a cycle bound each arc has options (verification time, value), and a path adds up both. The
score of a path's plan sets its value against max(cycle bound, Σ verification time). That is not additive, so paths are
kept as Pareto labels. Prices prune them: for a price p per millisecond, f_p(node) is an upper bound of value - p · time
of all users still to be placed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shared.planning.objective import Objective
from shared.planning.solvers.arrays.options import BatchOptions
from shared.planning.solvers.arrays.problem_arrays import Bools, Floats, Ints, ProblemArrays

PRICES = np.array(
    [0.0, 0.25, 0.5, 0.75, 1.0]
)  # relative to the value of a millisecond at the incumbent's score
PRICE_STEPS = 12  # of the bisection for a price on a batch
UNREACHABLE_MS = 1e30


@dataclass(frozen=True)
class Graph:
    """Arcs [A] from `tail` to `head`, ordered by tail; tail < head. Nodes are 0 to `last`. batch: that an arc adds."""

    tail: Ints
    head: Ints
    batch: Ints
    last: int

    @property
    def size(self) -> int:
        """The number of arcs."""
        return len(self.tail)

    def arcs(self, node: int) -> slice:
        """The arcs that leave a node, as a slice of all arcs."""
        return slice(int(np.searchsorted(self.tail, node)), int(np.searchsorted(self.tail, node + 1)))


@dataclass(frozen=True)
class PathStep:
    """One batch of a path and its option."""

    batch: int
    option: int


@dataclass(frozen=True)
class Path:
    """A path from node 0 to the last node."""

    steps: tuple[PathStep, ...]


def best_paths(graph: Graph, worth: Floats) -> Ints:
    """For each column of worth [batches, X], the batches of the path with the largest sum: [X, longest path].

    Rows are filled up with -1; a row of -1 alone means that the column has no path.
    """
    ahead, taken = _best_ahead(graph, worth)
    columns = np.arange(worth.shape[1])
    node = np.where(ahead[0] > -np.inf, 0, graph.last)
    steps = []
    while (node != graph.last).any():
        arc = taken[np.minimum(node, graph.last - 1), columns]
        steps.append(np.where(node == graph.last, -1, graph.batch[arc]))
        node = np.where(node == graph.last, node, graph.head[arc])
    return np.array(steps).T if steps else np.empty((worth.shape[1], 0), dtype=np.int64)


def counted_paths(graph: Graph, worth: Floats, min_batches: int, max_batches: int) -> Ints:
    """As best_paths, for paths with min_batches to max_batches batches; a row of -1 where none was found.

    The paths are good but not always the best: they come from bisecting a price on a batch for each column.
    """
    paths = best_paths(graph, worth)
    count = (paths >= 0).sum(axis=1)
    allowed, none = (count >= min_batches) & (count <= max_batches), count == 0
    if (allowed | none).all():
        return paths
    top = np.where(worth > -np.inf, np.abs(worth), 0.0).max(axis=0)
    low, high = np.where(count > max_batches, 0.0, -top), np.where(count > max_batches, top, 0.0)
    for _ in range(PRICE_STEPS):
        price = (low + high) / 2
        tried = best_paths(graph, worth - price)
        count = (tried >= 0).sum(axis=1)
        taken = ~none & ~allowed & (count >= min_batches) & (count <= max_batches)
        paths = np.where(taken[:, None], *_padded_equally(tried, paths))
        allowed |= taken
        low, high = np.where(count > max_batches, price, low), np.where(count > max_batches, high, price)
        if (allowed | none).all():
            break
    return np.where(allowed[:, None], paths, -1)


def _padded_equally(one: Ints, other: Ints) -> tuple[Ints, Ints]:
    """Both arrays, filled up with -1 to equal width."""
    width = max(one.shape[1], other.shape[1])
    both = (np.pad(of, ((0, 0), (0, width - of.shape[1])), constant_values=-1) for of in (one, other))
    return next(both), next(both)


def best_sums(graph: Graph, worth: Floats) -> Floats:
    """For each column of worth [batches, X], the largest sum over the batches of a path [X]; -inf without a path."""
    return np.asarray(_best_ahead(graph, worth)[0][0])


def _best_ahead(graph: Graph, best: Floats) -> tuple[Floats, Ints]:
    """The best sum from each node to the last, and the first arc of its path, both [nodes, P]. best: [batches, P]."""
    ahead = np.full((graph.last + 1, best.shape[1]), -np.inf)
    ahead[graph.last] = 0.0
    taken = np.zeros(ahead.shape, dtype=np.int64)
    for node in range(graph.last - 1, -1, -1):
        arcs = graph.arcs(node)
        if arcs.start == arcs.stop:
            continue
        sums = best[graph.batch[arcs]] + ahead[graph.head[arcs]]
        winner = sums.argmax(axis=0)
        taken[node] = arcs.start + winner
        ahead[node] = np.take_along_axis(sums, winner[None], axis=0)[0]
    return ahead, taken


@dataclass(frozen=True)
class _Labels:
    """Partial plans that reach a node [n].

    verify_ms, value: sums so far. batches: their number. node, label: the previous node and the label there. batch,
    option: added last.
    """

    verify_ms: Floats
    value: Floats
    batches: Ints
    node: Ints
    label: Ints
    batch: Ints
    option: Ints

    def __len__(self) -> int:
        return len(self.value)

    def take(self, index: Ints) -> "_Labels":
        return _Labels(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    @staticmethod
    def join(parts: "list[_Labels]") -> "_Labels":
        return _Labels(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in _Labels.__dataclass_fields__
            )
        )


@dataclass(frozen=True)
class Pruning:
    """Prunes partial plans that cannot beat the incumbent: V > required(S) must stay possible, with S >= C.

    C is the cycle bound. required(S) grows with S, linearly or like a logarithm. So for a price p, V - required(max(C,
    Σt)) is at most value + f_p(ahead) + max over x of (p·x - required(max(C, time + x))). The maximum is at the x where
    Σt = C, or at an end of the range of x: the shortest time ahead, or the time that even the maximum value of all
    users cannot make up for.

    score: the incumbent's. max_busy_ms: Σ t_v of a better plan at most. prices: [P].
    """

    objective: Objective
    weight: float
    score: float
    cycle_bound_ms: float
    max_busy_ms: float
    prices: Floats

    @classmethod
    def at(cls, arrays: ProblemArrays, score: float, cycle_bound_ms: float) -> "Pruning":
        """For an incumbent of this score and cycles of at least cycle_bound_ms."""
        objective, weight = arrays.objective, arrays.total_weight
        max_busy = objective.max_cycle_ms(score, weight, arrays.max_value)
        prices = PRICES * objective.price(score, weight, cycle_bound_ms)
        return cls(objective, weight, score, cycle_bound_ms, max_busy, prices)

    def admits(self, time: Floats, value: Floats, ahead: Floats, time_ahead: Floats) -> Bools:
        """Which partial plans [n, o] stay.

        time, value: their sums [n, o]. ahead [o, P], time_ahead [o]: bounds at the node that each option leads to.
        """
        through = time + time_ahead <= self.max_busy_ms
        turn = np.maximum(self.cycle_bound_ms - time, time_ahead)
        end = np.maximum(self.max_busy_ms - time, time_ahead)
        at_turn = self._needed(np.maximum(self.cycle_bound_ms, time + turn))
        at_end = self._needed(np.maximum(self.cycle_bound_ms, time + end))
        for index, price in enumerate(self.prices):
            rest = np.maximum(price * turn - at_turn, price * end - at_end)
            through &= value + ahead[:, index] + rest > 0
        return through

    def _needed(self, cycle: Floats) -> Floats:
        return np.asarray(self.objective.required_value(self.score, self.weight, cycle))


class Pareto:
    """All undominated paths through a graph within one cycle bound."""

    def __init__(
        self, graph: Graph, options: BatchOptions, pruning: Pruning, min_batches: int, max_batches: int
    ) -> None:
        """Paths of min_batches to max_batches arcs that `pruning` admits."""
        self._graph, self._pruning, self._min_batches, self._max_batches = (
            graph,
            pruning,
            min_batches,
            max_batches,
        )
        self._time, self._values = options.verify_ms, options.values
        verify_ms, values = options.verify_ms, options.values
        best = (values[:, :, None] - pruning.prices * verify_ms[:, :, None]).max(axis=1)  # [batches, P]
        feasible = np.where(values > -np.inf, verify_ms, UNREACHABLE_MS).min(axis=1)
        ahead, _ = _best_ahead(graph, np.column_stack([best, -feasible]))
        self._value_ahead, self._time_ahead = (
            ahead[:, :-1],
            np.minimum(-ahead[:, -1], UNREACHABLE_MS),
        )  # [nodes, P], [nodes]
        self._labels: dict[int, _Labels] = {}
        self._propagate()

    def final_sums(self) -> tuple[Floats, Floats]:
        """Σ verification time and Σ value of the plans that reached the last node."""
        last = self._labels.get(self._graph.last)
        return (last.verify_ms, last.value) if last else (np.empty(0), np.empty(0))

    def path(self, index: int) -> Path:
        """The path of one of these plans."""
        labels = self._labels[self._graph.last]
        steps = []
        while labels.batch[index] >= 0:
            steps.append(PathStep(int(labels.batch[index]), int(labels.option[index])))
            node, index = int(labels.node[index]), int(labels.label[index])
            labels = self._labels[node]
        return Path(tuple(reversed(steps)))

    def _propagate(self) -> None:
        none = np.array([-1])
        arriving = {
            0: [_Labels(np.zeros(1), np.zeros(1), np.zeros(1, dtype=np.int64), none, none, none, none)]
        }
        for node in range(self._graph.last + 1):
            if node not in arriving:
                continue
            labels = _undominated(_Labels.join(arriving.pop(node)), self._counts_batches(node))
            self._labels[node] = labels
            for head, reached in self._expand(node, labels):
                arriving.setdefault(head, []).append(reached)

    def _counts_batches(self, node: int) -> bool:
        """Whether labels with different numbers of batches must be kept apart, because the number is bounded."""
        return self._min_batches > 1 or self._max_batches < self._graph.last

    def _expand(self, node: int, labels: _Labels) -> Iterator[tuple[int, _Labels]]:
        arcs = self._graph.arcs(node)
        arc, option = np.nonzero(self._values[self._graph.batch[arcs]] > -np.inf)
        batch, head = self._graph.batch[arcs][arc], self._graph.head[arcs][arc]
        time = labels.verify_ms[:, None] + self._time[batch, option]
        value = labels.value[:, None] + self._values[batch, option]
        keep = labels.batches[:, None] < self._max_batches
        keep = keep & (labels.batches[:, None] + 1 >= self._min_batches) | keep & (head != self._graph.last)
        keep &= self._pruning.admits(time, value, self._value_ahead[head], self._time_ahead[head])
        label, which = np.nonzero(keep)
        order = np.argsort(head[which], kind="stable")
        label, which = label[order], which[order]
        edges = np.flatnonzero(np.diff(head[which])) + 1
        for part_label, part_which in zip(np.split(label, edges), np.split(which, edges), strict=True):
            if len(part_which) == 0:
                continue
            yield (
                int(head[part_which[0]]),
                _Labels(
                    time[part_label, part_which],
                    value[part_label, part_which],
                    labels.batches[part_label] + 1,
                    np.full(len(part_label), node),
                    part_label,
                    batch[part_which],
                    option[part_which],
                ),
            )


def _undominated(labels: _Labels, count_batches: bool) -> _Labels:
    """Labels that no other label beats in both time and value.

    count_batches: only labels with equal numbers of batches compete.
    """
    kept = []
    for batches in np.unique(labels.batches) if count_batches else (None,):
        mine = np.arange(len(labels)) if batches is None else np.flatnonzero(labels.batches == batches)
        order = mine[np.lexsort((-labels.value[mine], labels.verify_ms[mine]))]
        value = labels.value[order]
        best_before = np.concatenate([[-np.inf], np.maximum.accumulate(value)[:-1]])
        kept.append(order[value > best_before])
    return labels.take(np.concatenate(kept))
