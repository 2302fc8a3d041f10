"""The best plan as a path: every solver's choice of batches is a graph whose arcs are batches.

Nodes stand for the users already placed, 0 for nobody and the last for everybody; an arc adds one batch. Fixed batches
are a chain, contiguous groups of sorted users a line with every jump, all partitions the lattice of subsets. Within a
cap each arc has options (verify time, value), and a path adds up both. A path's plan is scored value against
max(cap, Σ verify): not additive, so paths are kept as Pareto labels, and cut by prices: for a price p per millisecond,
f_p(node) bounds value - p · time of everything still to come.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shared.planning.objective import Objective
from shared.planning.solvers.arrays.options import Options
from shared.planning.solvers.arrays.problem_arrays import Bools, Floats, Ints, ProblemArrays

PRICES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])  # of a millisecond's worth at the incumbent's score
PRICE_STEPS = 12  # of a batch, until paths have as many as they may
UNREACHABLE_MS = 1e30  # ms


@dataclass(frozen=True)
class Graph:
    """Arcs [A] from `tail` to `head`, ordered by tail; tail < head. Nodes 0 to `last`. `batch`: what an arc adds."""

    tail: Ints
    head: Ints
    batch: Ints
    last: int

    @property
    def size(self) -> int:
        """How many arcs there are."""
        return len(self.tail)

    def arcs(self, node: int) -> slice:
        """The arcs that leave a node."""
        return slice(int(np.searchsorted(self.tail, node)), int(np.searchsorted(self.tail, node + 1)))


@dataclass(frozen=True)
class Step:
    """One batch of a path, and the option taken there."""

    batch: int
    option: int


@dataclass(frozen=True)
class Path:
    """A way from nobody to everybody."""

    steps: tuple[Step, ...]


def best_paths(graph: Graph, worth: Floats) -> Ints:
    """For every column of worth [batches, X], the batches of the path with the largest sum: [X, longest path], then -1.

    A column without a path has none.
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
    """As best_paths, of paths with `least` to `most` batches: good ones, by a price on a batch for each column."""
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
    """Both filled up with -1."""
    width = max(one.shape[1], other.shape[1])
    both = (np.pad(of, ((0, 0), (0, width - of.shape[1])), constant_values=-1) for of in (one, other))
    return next(both), next(both)


def best_sums(graph: Graph, worth: Floats) -> Floats:
    """For every column of worth [batches, X], the largest sum of a path's batches [X]; -inf where there is no path."""
    return np.asarray(_best_ahead(graph, worth)[0][0])


def _best_ahead(graph: Graph, best: Floats) -> tuple[Floats, Ints]:
    """The best sum from every node to the last [nodes, P], and the arc that begins it; best: [batches, P]."""
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
    """Partial plans that reach a node [n]: sums so far, batches, and where they came from."""

    verify_ms: Floats
    value: Floats
    batches: Ints
    node: Ints  # came from
    label: Ints  # there
    batch: Ints  # added
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
    """What a partial plan must still be able to reach: V > needed(S) for the incumbent's score, with S >= cap.

    needed grows with S, linearly or like a logarithm, so for a price p, V - needed(max(cap, Σt)) is at most
    value + f_p(ahead) + max over x of (p·x - needed(max(cap, time + x))), and that is largest at the x where Σt is the
    cap, or at an end of what x can be: the least time ahead, or where even everybody's whole value cannot pay.
    """

    objective: Objective
    weight: float
    score: float  # the incumbent's
    cycle_bound_ms: float
    max_busy_ms: float  # Σ verify of a plan that pays, at most
    prices: Floats  # [P]

    @classmethod
    def at(cls, arrays: ProblemArrays, score: float, cycle_bound_ms: float) -> "Pruning":
        """Against an incumbent of this score, for cycles of at least cap_ms."""
        objective, weight = arrays.objective, arrays.total_weight
        max_busy = objective.max_cycle_ms(score, weight, arrays.max_value)
        prices = PRICES * objective.price(score, weight, cycle_bound_ms)
        return cls(objective, weight, score, cycle_bound_ms, max_busy, prices)

    def admits(self, time: Floats, value: Floats, ahead: Floats, time_ahead: Floats) -> Bools:
        """time, value: [n, o]; ahead [o, P] and time_ahead [o] of where each option leads."""
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
    """All paths worth keeping, through one graph within one cap."""

    def __init__(
        self, graph: Graph, options: Options, pruning: Pruning, min_batches: int, max_batches: int
    ) -> None:
        """Paths of `least` to `most` arcs, and of those only what `cut` lets through."""
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
        """Σ verify time and Σ value of the plans that came through."""
        last = self._labels.get(self._graph.last)
        return (last.verify_ms, last.value) if last else (np.empty(0), np.empty(0))

    def path(self, index: int) -> Path:
        """One of them."""
        labels = self._labels[self._graph.last]
        steps = []
        while labels.batch[index] >= 0:
            steps.append(Step(int(labels.batch[index]), int(labels.option[index])))
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
        """Whether a plan with fewer batches may be worth more than its time and value say."""
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
    """Labels that none other beats in both time and value; those of unlike many batches do not compete if counted."""
    kept = []
    for batches in np.unique(labels.batches) if count_batches else (None,):
        mine = np.arange(len(labels)) if batches is None else np.flatnonzero(labels.batches == batches)
        order = mine[np.lexsort((-labels.value[mine], labels.verify_ms[mine]))]
        value = labels.value[order]
        best_before = np.concatenate([[-np.inf], np.maximum.accumulate(value)[:-1]])
        kept.append(order[value > best_before])
    return labels.take(np.concatenate(kept))
