"""Search over caps: best plan of a graph of batches, exact, by branch and bound.

S = max(C, Σ t_v), C the largest t_d(n) + t_v(n). For an interval of caps [lo, hi], options computed at hi and scored as
if the cycle took only lo bound every plan in it; scored at hi they are plans. So the most promising interval is halved
until no bound is above the best plan.
"""

import heapq
from dataclasses import dataclass
from math import sqrt

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays import Arrays, Floats
from shared.planning.solvers.options import Batches, Options, exact
from shared.planning.solvers.paths import Cut, Graph, Pareto, Path

TOLERANCE = 1e-9  # relative, of a score: plans this close are equal


@dataclass(frozen=True)
class Found:
    """A plan and its score as computed within its cap (never more than its true score)."""

    score: float
    split: Split


def best_plan(
    batches: Batches, graph: Graph, incumbent: float, caps: tuple[float, float], tolerance: float = TOLERANCE
) -> Found | None:
    """The best plan with its largest loop within caps (ms), where that scores above incumbent; else None.

    tolerance: how much better (relative) a plan must be to be looked for.
    """
    return _Search(batches, graph, incumbent, tolerance).run(*caps)


def spell(path: Path, batches: Batches, options: Options) -> Split:
    """A path as a plan."""
    lengths = [0] * len(batches.arrays)
    groups = []
    for step in path.steps:
        members = batches.members_of(step.batch)
        groups.append(tuple(int(m) for m in members))
        for m, length in zip(members, options.lengths(step.batch, step.option), strict=True):
            lengths[int(m)] = length
    return Split(tuple(groups), tuple(lengths))


def cap_range(arrays: Arrays) -> tuple[float, float]:
    """The least and the most that a plan's longest loop can take, ms."""
    bounds, server, prefix = arrays.bounds, arrays.server, arrays.prefix
    shortest, longest = bounds.min_draft, bounds.max_draft
    users, prefixes = arrays.count.sum(), float((prefix * arrays.count).sum())
    alone = server.verify_ms(1.0, shortest, shortest, prefix, prefix)
    together = server.verify_ms(users, longest, longest * users, prefix.max(), prefixes)
    least = shortest * arrays.draft_ms + arrays.comm_ms + alone
    most = longest * arrays.draft_ms + arrays.comm_ms + together
    return float(least.max()), float(most.max())


class _Search:
    def __init__(self, batches: Batches, graph: Graph, incumbent: float, tolerance: float) -> None:
        self._tolerance = tolerance
        self._batches, self._graph, self._arrays = batches, graph, batches.arrays
        self._score = max(incumbent, self._arrays.worst_score)
        self._best: Found | None = None

    def run(self, low: float, high: float) -> Found | None:
        waiting = [(-np.inf, low, high)]  # (minus the bound of the interval around it, from, to)
        while waiting:
            bound, low, high = heapq.heappop(waiting)
            if -bound <= self._target():
                break
            bound = self._look(low, high)
            if bound > self._target() and high > low * (1 + self._tolerance / 10):
                middle = sqrt(low * high)
                heapq.heappush(waiting, (-bound, low, middle))
                heapq.heappush(waiting, (-bound, middle, high))
        return self._best

    def _target(self) -> float:
        """The score that is worth finding."""
        slack = self._arrays.all_weight if self._arrays.objective.name == "fair" else abs(self._score)
        return self._score + self._tolerance * slack

    def _look(self, low: float, high: float) -> float:
        """Take the best plan with all loops within high, if it is one; a bound on plans whose longest is in between."""
        arrays = self._arrays
        cut = Cut.at(arrays, self._target(), low)
        options = exact(self._batches, high)
        pareto = Pareto(self._graph, options, cut, arrays.bounds.min_batches, arrays.max_batches)
        time, value = pareto.ends()
        if len(time) == 0:
            return -np.inf
        real = self._scores(time, value, high)
        if real.max() > self._target():
            self._score = float(real.max())
            path = pareto.path(int(real.argmax()))
            self._best = Found(self._score, spell(path, self._batches, options))
        return float(self._scores(time, value, low).max())

    def _scores(self, time: Floats, value: Floats, cap: float) -> Floats:
        cycle = np.maximum(cap, time)
        return np.asarray(self._arrays.objective.score(value, self._arrays.all_weight, cycle))
