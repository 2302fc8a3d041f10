"""Branch and bound over cycle bounds: the best plan of a graph of batches, exact.

S = max(C, Σ t_v), where C is the largest t_d(n) + t_v(n). Take an interval [lo, hi] of cycle bounds. Options computed
at hi, scored as if the cycle took lo, bound every plan whose longest loop is in the interval. The best of them, with
its true score, is a plan. The most promising interval is split in two until no bound exceeds the best plan. A loop
consists of whole drafts and one of few verification times. So an interval shrinks to the loops that exist in it, and
vanishes where there are none.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from shared.planning.solvers.arrays.options import Batches, BatchOptions, exact_options, options_size
from shared.planning.solvers.arrays.problem_arrays import Floats, ProblemArrays
from shared.planning.solvers.branch_and_bound.paths import Graph, Pareto, Path, Pruning, best_sums

TOLERANCE = 1e-9  # relative difference of scores below which plans are equal
# An interval up to this wide is split at the longest loop of its best plan, a wider one in the middle.
NARROW = 1.03
PRICES = np.array(
    [0.0, 0.3, 0.6, 0.85, 1.0]
)  # relative to the value of a millisecond at the best plan's score
SCREEN_SIZE = 2_000_000  # numbers of an array when many intervals are bounded at once, about
MIN_INTERVALS, MAX_INTERVALS = 4, 64  # bounded at once
SCREEN_ROUNDS = 4
LOOP_GAP = 2e-9  # of a token's time: loops that differ by less are equal; rounding takes half of it


@dataclass(frozen=True)
class Batch:
    """One batch of a plan: its users (or their classes) and their draft lengths."""

    users: tuple[int, ...]
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class PlanCandidate:
    """The batches of a plan and its score."""

    score: float
    batches: tuple[Batch, ...]


def best_plan(
    batches: Batches,
    graph: Graph,
    incumbent: float,
    cycle_bounds: tuple[float, float],
    tolerance: float = TOLERANCE,
    max_intervals: float = inf,
) -> PlanCandidate | None:
    """The best plan whose longest loop is within cycle_bounds (ms); None unless it scores above the incumbent.

    tolerance: relative improvement below which the search stops. max_intervals: intervals searched at most; with a
    limit the best plan may be missed.
    """
    return _Search(batches, graph, incumbent, tolerance).run(*cycle_bounds, max_intervals)


def batches_of_path(path: Path, batches: Batches, options: BatchOptions) -> tuple[Batch, ...]:
    """The batches of a path, with users and lengths."""
    batch_list = []
    for step in path.steps:
        batch_slice = batches.slice_of(step.batch)
        users = np.repeat(batches.members[batch_slice], batches.count[batch_slice].astype(np.int64))
        batch_list.append(Batch(tuple(users.tolist()), tuple(options.lengths(step.batch, step.option))))
    return tuple(batch_list)


def score_and_loop(arrays: ProblemArrays, batches: Sequence[Batch]) -> tuple[float, float]:
    """The score of a plan and its longest loop in ms."""
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


def cycle_bound_range(arrays: ProblemArrays) -> tuple[float, float]:
    """The shortest and the longest time that the longest loop of a plan can take, in ms."""
    bounds, server, prefix = arrays.bounds, arrays.server, arrays.prefix
    shortest, longest = bounds.min_draft, bounds.max_draft
    users, prefixes = arrays.count.sum(), float((prefix * arrays.count).sum())
    alone = server.verify_ms(1.0, shortest, shortest, prefix, prefix)
    together = server.verify_ms(users, longest, longest * users, prefix.max(), prefixes)
    shortest_loop = shortest * arrays.draft_ms + arrays.comm_ms + alone
    longest_loop = longest * arrays.draft_ms + arrays.comm_ms + together
    return float(shortest_loop.max()), float(longest_loop.max())


class _Search:
    def __init__(self, batches: Batches, graph: Graph, incumbent: float, tolerance: float) -> None:
        self._tolerance = tolerance
        self._batches, self._graph, self._arrays = batches, graph, batches.arrays
        self._score = max(incumbent, self._arrays.min_score)
        self._best: PlanCandidate | None = None
        self._gap = LOOP_GAP * float(self._arrays.draft_ms.max())

    def run(self, low: float, high: float, max_intervals: float) -> PlanCandidate | None:
        waiting = self._screen(
            low, high
        )  # (-bound, low, high); the bound may be that of an enclosing interval
        heapq.heapify(waiting)
        while waiting and max_intervals > 0:
            max_intervals -= 1
            bound, low, high = heapq.heappop(waiting)
            if -bound <= self._target():
                break
            for part in self._search_interval(low, high):
                heapq.heappush(waiting, part)
        return self._best

    def _screen(self, low: float, high: float) -> list[tuple[float, float, float]]:
        """Intervals that may contain a better plan, by bounds on many intervals at once."""
        intervals = SCREEN_SIZE // (len(PRICES) * self._graph.size + options_size(self._batches))
        if intervals < MIN_INTERVALS:
            return [(-inf, low, high)]
        bounds, lows, highs = np.array([inf]), np.array([low]), np.array([high])
        for _ in range(SCREEN_ROUNDS):
            parts = min(MAX_INTERVALS, intervals) // max(1, len(lows))
            if parts < 2 or len(lows) == 0:
                break
            edges = lows[:, None] * (highs / lows)[:, None] ** (np.arange(parts + 1) / parts)
            bounds, lows, highs = self._bound_intervals(edges[:, :-1].ravel(), edges[:, 1:].ravel())
        return list(zip((-bounds).tolist(), lows.tolist(), highs.tolist(), strict=True))

    def _bound_intervals(self, lows: Floats, highs: Floats) -> tuple[Floats, Floats, Floats]:
        """Those of the intervals [X] that may contain a better plan: bounds, lows, highs.

        For any price p, V <= f(p) + p·Σt. So no plan scores more than one with Σt = lo and V = f(p) + p·lo.
        """
        arrays, batches, count = self._arrays, self._batches, len(self._batches)
        options = exact_options(batches.repeated(len(lows)), np.repeat(highs, count))
        shortest, longest = (of.reshape(-1, count) for of in options.loop_range(np.repeat(lows, count)))
        lows, highs = shortest.min(axis=1), longest.max(axis=1)
        there = lows <= highs
        worth = arrays.objective.price(self._score, arrays.total_weight, np.where(there, lows, 1.0))
        prices = np.multiply.outer(PRICES, np.broadcast_to(worth, lows.shape))  # [P, X]
        each = np.repeat(prices, count, axis=1)[:, :, None]
        best = (options.values - each * options.verify_ms).max(axis=2).reshape(len(PRICES), len(lows), count)
        max_worth = best_sums(self._graph, best.transpose(2, 0, 1).reshape(count, -1)).reshape(prices.shape)
        max_value = (max_worth + prices * np.where(there, lows, 0.0)).min(axis=0)
        bounds = arrays.objective.score(max_value, arrays.total_weight, np.where(there, lows, 1.0))
        kept = there & (max_value > -inf) & (bounds > self._target())
        return bounds[kept], lows[kept], highs[kept]

    def _target(self) -> float:
        """The score that a plan must exceed."""
        slack = self._arrays.total_weight if self._arrays.objective.name == "fair" else abs(self._score)
        return self._score + self._tolerance * slack

    def _search_interval(self, low: float, high: float) -> Iterator[tuple[float, float, float]]:
        """Find the best plans with all loops up to high; yields the intervals that remain, as (-bound, low, high)."""
        options = exact_options(self._batches, high)
        shortest, longest = options.loop_range(np.full(len(self._batches), low))
        low, high = float(shortest.min()), float(longest.max())
        if low > high:
            return
        arrays = self._arrays
        pruning = Pruning.at(arrays, self._target(), low)
        pareto = Pareto(self._graph, options, pruning, arrays.bounds.min_batches, arrays.max_batches)
        time, value = pareto.final_sums()
        if len(time) == 0:
            return
        likely, sure = (int(self._scores(time, value, loop).argmax()) for loop in (low, high))
        loop = self._keep_if_best(pareto, likely, options)
        if sure != likely:
            self._keep_if_best(pareto, sure, options)
        high -= self._gap  # the best plan with that longest loop is known now
        middle = loop if high <= low * NARROW and low <= loop < high else sqrt(low * high)
        for start, end in ((low, middle), (middle + self._gap, high)):
            bound = float(self._scores(time, value, start).max())
            if start <= end and bound > self._target():
                yield -bound, start, end

    def _keep_if_best(self, pareto: Pareto, index: int, options: BatchOptions) -> float:
        """Keep a plan if it is the best so far; returns its longest loop in ms."""
        batches = batches_of_path(pareto.path(index), self._batches, options)
        score, loop = score_and_loop(self._arrays, batches)
        if score > self._target():
            self._score = score
            self._best = PlanCandidate(score, batches)
        return loop

    def _scores(self, time: Floats, value: Floats, cycle_bound: float) -> Floats:
        cycle = np.maximum(cycle_bound, time)
        return np.asarray(self._arrays.objective.score(value, self._arrays.total_weight, cycle))
