"""Batching by dynamic programming over intervals of sorted users: Pareto labels, and the papers' scalars.

A batching is a path through 0..K. Its steady period is max(ΣA, ΣV, max(A + V)). One scalar for each prefix does not
determine the best path: a prefix that is ready sooner may have the wrong balance of ΣA and ΣV. So each prefix keeps its
labels (ΣA, ΣV, max(A + V), Σ cache) that no other label beats in all four.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from shared.planning.bandwidth.uploads import Bools, Floats
from shared.planning.latency.interval_costs import Batching, IntervalCosts, Ints

EXACT_USERS: Final = 12  # up to so many users no label is left out
EXACT_LABELS: Final = 4096
LABELS: Final = 4000  # about so many in all, at least MIN_LABELS and at most MAX_LABELS for each prefix
MIN_LABELS: Final = 12
MAX_LABELS: Final = 96
COMPARED: Final = 3  # times as many are compared for each prefix: those that promise the shortest periods
DOMINATED: Final = 1e-12  # relative tolerance of the comparison


@dataclass(frozen=True, slots=True)
class Rest:
    """Lower bounds on what users i.. add to a path, for each i [K + 1]: ΣA, ΣV, max(A + V), Σ cache."""

    draft_ms: Floats
    verify_ms: Floats
    loop_ms: Floats
    cache_bytes: Floats

    @classmethod
    def of(cls, costs: IntervalCosts) -> "Rest":
        """The shortest paths in each of the four, on their own."""
        fits, intervals = costs.intervals.fits, costs.intervals
        sums = [
            _shortest(table, fits) for table in (costs.node_draft_ms, costs.verify_ms, intervals.cache_bytes)
        ]
        alone = np.append(
            np.diagonal(costs.loop_ms, 1), 0.0
        )  # an interval's loop is at least that of each member
        loop = np.maximum.accumulate(alone[::-1])[::-1]
        return cls(sums[0], sums[1], loop, sums[2])

    @property
    def period_ms(self) -> float:
        """A lower bound on every batching's period."""
        return float(max(self.draft_ms[0], self.verify_ms[0], self.loop_ms[0]))


class _Labels:
    """Labels of all prefixes one after another: sums [4, n], prefix and parent [n]."""

    def __init__(self, capacity: int) -> None:
        self.sums = np.zeros((4, capacity))
        self.prefix = np.zeros(capacity, dtype=np.int64)
        self.parent = np.full(capacity, -1, dtype=np.int64)
        self.count = 1

    def add(self, sums: Floats, prefix: int, parent: Ints) -> None:
        until = self.count + sums.shape[1]
        if until > self.sums.shape[1]:
            room = 2 * until
            self.sums = np.pad(self.sums, ((0, 0), (0, room)))
            self.prefix, self.parent = np.pad(self.prefix, (0, room)), np.pad(self.parent, (0, room))
        self.sums[:, self.count : until] = sums
        self.prefix[self.count : until] = prefix
        self.parent[self.count : until] = parent
        self.count = until

    def batching(self, label: int) -> Batching:
        cuts = [int(self.prefix[label])]
        while self.parent[label] >= 0:
            label = int(self.parent[label])
            cuts.append(int(self.prefix[label]))
        cuts.reverse()
        return tuple(pairwise(cuts))


def pareto_batchings(costs: IntervalCosts, bound_ms: float, rest: Rest, count: int) -> list[Batching]:
    """Batchings of periods up to bound_ms, shortest first, at most `count`; [] where none is within the limits."""
    k, intervals = costs.users, costs.intervals
    keep = EXACT_LABELS if k <= EXACT_USERS else int(np.clip(LABELS // k, MIN_LABELS, MAX_LABELS))
    arcs = intervals.fits & (costs.loop_ms <= bound_ms)
    labels = _Labels(keep * (k + 1) if k > EXACT_USERS else EXACT_LABELS)
    begins = np.zeros(k + 2, dtype=np.int64)  # of each prefix's labels
    begins[1] = 1
    for i in range(1, k + 1):
        reached = np.flatnonzero(arcs[:i, i])
        if len(reached):
            span = slice(int(begins[reached[0]]), labels.count)
            sums, parent = _extended(labels, span, i, costs)
            good = _promising(sums, i, rest, bound_ms, intervals.room_bytes) & arcs[labels.prefix[parent], i]
            sums, parent = _undominated(sums[:, good], parent[good], i, rest, keep)
            labels.add(sums, i, parent)
        begins[i + 1] = labels.count
    last = np.arange(begins[k], labels.count)
    period = labels.sums[:3, last].max(axis=0)
    return [labels.batching(int(last[at])) for at in np.argsort(period, kind="stable")[:count]]


def _extended(labels: _Labels, span: slice, i: int, costs: IntervalCosts) -> tuple[Floats, Ints]:
    """Labels of earlier prefixes with one more batch, which ends at i: sums [4, n] and the labels they come from."""
    before, sums = labels.prefix[span], labels.sums[:, span].copy()
    sums[0] += costs.node_draft_ms[before, i]
    sums[1] += costs.verify_ms[before, i]
    np.maximum(sums[2], costs.loop_ms[before, i], out=sums[2])
    sums[3] += costs.intervals.cache_bytes[before, i]
    return sums, np.arange(span.start, span.stop)


def _promising(sums: Floats, i: int, rest: Rest, bound_ms: float, room_bytes: float) -> Bools:
    draft, verify = sums[0] + rest.draft_ms[i], sums[1] + rest.verify_ms[i]
    within = (draft <= bound_ms) & (verify <= bound_ms) & (sums[2] <= bound_ms)
    return np.asarray(within & (sums[3] + rest.cache_bytes[i] <= room_bytes))


def _undominated(sums: Floats, parent: Ints, i: int, rest: Rest, keep: int) -> tuple[Floats, Ints]:
    """Labels that no other beats in all sums; of too many, those with the lowest bounds on the period.

    What is below the bound on every period cannot matter any more, so loops are compared from there on.
    """
    promise = np.maximum(sums[0] + rest.draft_ms[i], sums[1] + rest.verify_ms[i])
    promise = np.maximum(promise, np.maximum(sums[2], rest.loop_ms[i]))
    compared = min(len(promise), COMPARED * keep)
    order = np.argpartition(promise, compared - 1)[:compared] if compared else np.arange(0)
    order = order[np.lexsort((sums[0, order] + sums[1, order], promise[order]))]
    some = sums[:, order].copy()
    np.maximum(some[2], rest.period_ms, out=some[2])
    slack = DOMINATED * np.array([*[rest.period_ms] * 3, some[3].max(initial=0.0)])
    beats = np.ones((len(order), len(order)), dtype=np.bool_)  # [a, b]: a is nowhere worse than b
    for value, tolerance in zip(some, slack, strict=True):
        beats &= value[:, None] <= value[None, :] + tolerance
    lost = np.triu(beats, 1).any(axis=0)
    kept = order[~lost][:keep]
    return sums[:, kept], parent[kept]


def scalar_batching(costs: IntervalCosts) -> Batching | None:
    """The literal reading of the paper: each prefix keeps the one path with the shortest period so far. None: no room.

    The memory of all batches together is checked along the kept paths only.
    """
    k, intervals = costs.users, costs.intervals
    sums, before = np.full((4, k + 1), np.inf), np.zeros(k + 1, dtype=np.int64)
    sums[:, 0] = 0.0
    for i in range(1, k + 1):
        j = np.flatnonzero(intervals.fits[:i, i] & np.isfinite(sums[1, :i]))
        draft, verify = sums[0, j] + costs.node_draft_ms[j, i], sums[1, j] + costs.verify_ms[j, i]
        loop = np.maximum(sums[2, j], costs.loop_ms[j, i])
        cache = sums[3, j] + intervals.cache_bytes[j, i]
        period = np.where(cache <= intervals.room_bytes, np.maximum(np.maximum(draft, verify), loop), np.inf)
        if len(j) and np.isfinite(period.min()):
            at = int(np.argmin(period))
            sums[:, i], before[i] = (draft[at], verify[at], loop[at], cache[at]), j[at]
    return _path(before, k) if np.isfinite(sums[1, k]) else None


def serial_batching(costs: IntervalCosts) -> Batching | None:
    """The batching with the smallest Σ(A + link + V), the best without a pipeline. None: a user alone does not fit."""
    k, fits = costs.users, costs.intervals.fits
    best, before = np.full(k + 1, np.inf), np.zeros(k + 1, dtype=np.int64)
    best[0] = 0.0
    for i in range(1, k + 1):
        total = np.where(fits[:i, i], best[:i] + costs.loop_ms[:i, i], np.inf)
        before[i] = np.argmin(total)
        best[i] = total[before[i]]
    return _path(before, k) if np.isfinite(best[k]) else None


def equal_batchings(costs: IntervalCosts) -> list[Batching]:
    """Batches of equal size, from one batch to one for each user, in growing steps; those within memory."""
    k, found = costs.users, []
    numbers = sorted({*range(1, min(k, 24) + 1), *(int(n) for n in np.geomspace(1, k, 48))})
    for number in numbers:
        cuts = np.linspace(0, k, number + 1).round().astype(np.int64)
        if costs.admits(cuts[:-1], cuts[1:]):
            found.append(tuple(pairwise(cuts.tolist())))
    return found


def _path(before: Ints, k: int) -> Batching:
    cuts = [k]
    while cuts[-1] > 0:
        cuts.append(int(before[cuts[-1]]))
    cuts.reverse()
    return tuple(pairwise(cuts))


def _shortest(table: Floats, fits: Bools) -> Floats:
    """The smallest sum of a cost over paths from each i to K [K + 1]; inf where none is within a batch's memory."""
    k = len(table) - 1
    best = np.full(k + 1, np.inf)
    best[k] = 0.0
    for i in range(k - 1, -1, -1):
        best[i] = np.where(fits[i, i + 1 :], table[i, i + 1 :] + best[i + 1 :], np.inf).min()
    return best
