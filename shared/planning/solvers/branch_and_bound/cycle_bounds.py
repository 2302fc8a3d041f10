"""Search over caps: best plan of a graph of batches, exact, by branch and bound.

S = max(C, Σ t_v), C the largest t_d(n) + t_v(n). For an interval of caps [lo, hi], options computed at hi and scored as
if the cycle took only lo bound every plan in it; the best of them, scored as it really is, is a plan. So the most
promising interval is cut in two until no bound is above the best plan. Loops are sums of whole drafts and of few
verify times: an interval shrinks to the loops that there are in it, and is gone where there is none.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from shared.planning.solvers.arrays.options import Batches, Options, exact, options_size
from shared.planning.solvers.arrays.problem_arrays import Arrays, Floats
from shared.planning.solvers.branch_and_bound.paths import Cut, Graph, Pareto, Path, best_sums

TOLERANCE = 1e-9  # relative, of a score: plans this close are equal
NARROW = (
    1.03  # an interval up to this wide is cut at the longest loop of its best plan, a wider one in the middle
)
PRICES = np.array([0.0, 0.3, 0.6, 0.85, 1.0])  # of what a millisecond is worth at the best plan's score
SCREENED = 2_000_000  # numbers of an array in a quick look at intervals, about
FEWEST, MOST = 4, 64  # intervals of such a look
ROUNDS = 4
GAP = 2e-9  # loops that differ by less of a token's time are the same; rounding forgives half of that


@dataclass(frozen=True)
class Batch:
    """One batch of a plan: its users (or their classes), and how far each drafts."""

    users: tuple[int, ...]
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """A plan and its score."""

    score: float
    batches: tuple[Batch, ...]


def best_plan(
    batches: Batches,
    graph: Graph,
    incumbent: float,
    caps: tuple[float, float],
    tolerance: float = TOLERANCE,
    looks: float = inf,
) -> Found | None:
    """The best plan with its largest loop within caps (ms), where that scores above incumbent; else None.

    tolerance: how much better (relative) a plan must be to be looked for. looks: intervals searched at most; with a
    limit the best may be missed.
    """
    return _Search(batches, graph, incumbent, tolerance).run(*caps, looks)


def spell(path: Path, batches: Batches, options: Options) -> tuple[Batch, ...]:
    """A path as a plan."""
    found = []
    for step in path.steps:
        mine = batches.slice_of(step.batch)
        users = np.repeat(batches.members[mine], batches.count[mine].astype(np.int64))
        found.append(Batch(tuple(users.tolist()), tuple(options.lengths(step.batch, step.option))))
    return tuple(found)


def score_of(arrays: Arrays, batches: Sequence[Batch]) -> tuple[float, float]:
    """Of a plan: its score, and its longest loop in ms."""
    value, busy, longest = 0.0, 0.0, 0.0
    for batch in batches:
        users, lengths = np.array(batch.users), np.array(batch.lengths)
        prefix = arrays.prefix[users]
        shape = (len(users), lengths.max(), lengths.sum(), prefix.max(), prefix.sum())
        verify = float(arrays.server.verify_ms(*shape))
        loop = float((lengths * arrays.draft_ms[users] + arrays.comm_ms[users]).max()) + verify
        value, busy, longest = (
            value + float(arrays.value[users, lengths].sum()),
            busy + verify,
            max(longest, loop),
        )
    return float(arrays.scores(np.array(value), np.array(busy), longest)), longest


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
        self._gap = GAP * float(self._arrays.draft_ms.max())

    def run(self, low: float, high: float, looks: float) -> Found | None:
        waiting = self._screened(low, high)  # (minus the bound of the interval or of one around it, from, to)
        heapq.heapify(waiting)
        while waiting and looks > 0:
            looks -= 1
            bound, low, high = heapq.heappop(waiting)
            if -bound <= self._target():
                break
            for part in self._look(low, high):
                heapq.heappush(waiting, part)
        return self._best

    def _screened(self, low: float, high: float) -> list[tuple[float, float, float]]:
        """Intervals that may hold a better plan, from quick bounds on many at once."""
        room = SCREENED // (len(PRICES) * self._graph.size + options_size(self._batches))
        if room < FEWEST:
            return [(-inf, low, high)]
        bounds, lows, highs = np.array([inf]), np.array([low]), np.array([high])
        for _ in range(ROUNDS):
            parts = min(MOST, room) // max(1, len(lows))
            if parts < 2 or len(lows) == 0:
                break
            edges = lows[:, None] * (highs / lows)[:, None] ** (np.arange(parts + 1) / parts)
            bounds, lows, highs = self._bounded(edges[:, :-1].ravel(), edges[:, 1:].ravel())
        return list(zip((-bounds).tolist(), lows.tolist(), highs.tolist(), strict=True))

    def _bounded(self, lows: Floats, highs: Floats) -> tuple[Floats, Floats, Floats]:
        """Of intervals [X], those that may hold a better plan: bounds, from, to.

        For any price p, V <= f(p) + p·Σt, so that a plan scores at most as one with Σt = lo and V = f(p) + p·lo does.
        """
        arrays, batches, count = self._arrays, self._batches, len(self._batches)
        options = exact(batches.repeated(len(lows)), np.repeat(highs, count))
        shortest, longest = (of.reshape(-1, count) for of in options.loops_from(np.repeat(lows, count)))
        lows, highs = shortest.min(axis=1), longest.max(axis=1)
        there = lows <= highs
        worth = arrays.objective.price(self._score, arrays.all_weight, np.where(there, lows, 1.0))
        prices = np.multiply.outer(PRICES, np.broadcast_to(worth, lows.shape))  # [P, X]
        each = np.repeat(prices, count, axis=1)[:, :, None]
        best = (options.values - each * options.verify_ms).max(axis=2).reshape(len(PRICES), len(lows), count)
        most = best_sums(self._graph, best.transpose(2, 0, 1).reshape(count, -1)).reshape(prices.shape)
        least = (most + prices * np.where(there, lows, 0.0)).min(axis=0)
        bounds = arrays.objective.score(least, arrays.all_weight, np.where(there, lows, 1.0))
        kept = there & (least > -inf) & (bounds > self._target())
        return bounds[kept], lows[kept], highs[kept]

    def _target(self) -> float:
        """The score that is worth finding."""
        slack = self._arrays.all_weight if self._arrays.objective.name == "fair" else abs(self._score)
        return self._score + self._tolerance * slack

    def _look(self, low: float, high: float) -> Iterator[tuple[float, float, float]]:
        """Take the best plans with all loops within high; yields what is left, as `run` has it waiting."""
        options = exact(self._batches, high)
        shortest, longest = options.loops_from(np.full(len(self._batches), low))
        low, high = float(shortest.min()), float(longest.max())
        if low > high:
            return
        arrays = self._arrays
        cut = Cut.at(arrays, self._target(), low)
        pareto = Pareto(self._graph, options, cut, arrays.bounds.min_batches, arrays.max_batches)
        time, value = pareto.ends()
        if len(time) == 0:
            return
        likely, sure = (int(self._scores(time, value, loop).argmax()) for loop in (low, high))
        loop = self._take(pareto, likely, options)
        if sure != likely:
            self._take(pareto, sure, options)
        high -= self._gap  # the best plan with a loop as long as that is known now
        middle = loop if high <= low * NARROW and low <= loop < high else sqrt(low * high)
        for start, end in ((low, middle), (middle + self._gap, high)):
            bound = float(self._scores(time, value, start).max())
            if start <= end and bound > self._target():
                yield -bound, start, end

    def _take(self, pareto: Pareto, index: int, options: Options) -> float:
        """Keep a plan if it is the best so far; its longest loop."""
        batches = spell(pareto.path(index), self._batches, options)
        score, loop = score_of(self._arrays, batches)
        if score > self._target():
            self._score = score
            self._best = Found(score, batches)
        return loop

    def _scores(self, time: Floats, value: Floats, cap: float) -> Floats:
        cycle = np.maximum(cap, time)
        return np.asarray(self._arrays.objective.score(value, self._arrays.all_weight, cycle))
