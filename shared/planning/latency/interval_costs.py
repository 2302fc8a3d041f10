"""What every interval of a sorted cohort costs as a batch: tables over its first user and the one after its last."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shared.planning.bandwidth.uploads import Bools, Floats
from shared.planning.cost import Shape
from shared.planning.latency.cohort import Cohort
from shared.planning.latency.pipeline import Pipeline

Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Batching = tuple[
    tuple[int, int], ...
]  # half-open intervals [first, end) of an order, in the order of the pipeline


@dataclass(frozen=True)
class Intervals:
    """Shapes of all intervals [j, i) of K users in an order, as tables [K + 1, K + 1]; only j < i is meant.

    count: users. longest, inputs: the longest input and the sum of all. link_ms: the slowest link to a drafting node.
    fits: whether the interval is within the verifier's memory. cache_bytes: of all rows, without weights.
    """

    cohort: Cohort
    order: tuple[int, ...]
    count: Floats
    longest: Floats
    inputs: Floats
    fits: Bools
    cache_bytes: Floats

    @classmethod
    def of(cls, cohort: Cohort, order: tuple[int, ...]) -> "Intervals":
        """The shapes of a cohort's intervals."""
        prefix = np.array([cohort.users[m].prefix for m in order], dtype=np.float64)
        ends = np.arange(len(order) + 1.0)
        count = np.maximum(ends[None, :] - ends[:, None], 0.0)
        sums = np.concatenate([[0.0], np.cumsum(prefix)])
        inputs = np.maximum(sums[None, :] - sums[:, None], 0.0)
        longest = interval_max(prefix)
        server = cohort.verifier
        need = np.asarray(server.needed_bytes(count, longest, inputs))
        fits = (count > 0) & (need <= server.memory_bytes)
        return cls(cohort, order, count, longest, inputs, fits, need - weight_bytes(cohort))

    @cached_property
    def room_bytes(self) -> float:
        """For the caches of all batches together."""
        return self.cohort.resident_bytes - weight_bytes(self.cohort)

    @cached_property
    def link_ms(self) -> Floats:
        """The slowest link of each interval; 0 where devices draft, whose time includes it."""
        comm = np.array([self.cohort.users[m].comm_ms for m in self.order])
        return interval_max(comm if self.cohort.drafter is not None else np.zeros_like(comm))

    def costs(self, length: int) -> "IntervalCosts":
        """The costs of all intervals with drafts of this length."""
        cohort = self.cohort
        if cohort.drafter is not None:
            step = Shape(self.count, self.count, 1.0, self.inputs, self.longest)
            draft = length * np.asarray(cohort.drafter.pass_ms(step))
        else:
            draft = interval_max(np.array([cohort.users[m].ready_ms(length) for m in self.order]))
        new = self.count * (length + 1)
        verify = np.asarray(
            cohort.verifier.law.pass_ms(Shape(self.count, new, length + 1.0, self.inputs, self.longest))
        )
        return IntervalCosts(
            self, length, cohort.rounds(length), draft, verify, draft + self.link_ms + verify
        )


@dataclass(frozen=True)
class IntervalCosts:
    """Costs of all intervals for one draft length, in ms [K + 1, K + 1]: A, V and the loop A + link + V."""

    intervals: Intervals
    length: int
    rounds: int
    draft_ms: Floats
    verify_ms: Floats
    loop_ms: Floats

    @property
    def users(self) -> int:
        """K."""
        return len(self.intervals.order)

    @property
    def one_drafter(self) -> bool:
        """Whether one node drafts for all."""
        return self.intervals.cohort.drafter is not None

    @cached_property
    def node_draft_ms(self) -> Floats:
        """What an interval adds to the draft node's cycle; nothing where devices draft."""
        return self.draft_ms if self.one_drafter else np.zeros_like(self.draft_ms)

    def pipeline(self, first: Ints, end: Ints) -> Pipeline:
        """The pipeline of batches [first, end), or of many such pipelines [..., n]."""
        link = self.intervals.link_ms[first, end]
        return Pipeline(self.draft_ms[first, end], self.verify_ms[first, end], link, self.one_drafter)

    def period_ms(self, batching: Batching) -> float:
        """Λ of a batching."""
        return float(self.pipeline(*ends_of(batching)).period_ms())

    def admits(self, first: Ints, end: Ints) -> Bools:
        """Which of many batchings [..., n] are within both memories."""
        inside = (first < end).all(axis=-1) & self.intervals.fits[first, end].all(axis=-1)
        return np.asarray(
            inside & (self.intervals.cache_bytes[first, end].sum(axis=-1) <= self.intervals.room_bytes)
        )


def ends_of(batching: Batching) -> tuple[Ints, Ints]:
    """First users and ends of batches, as arrays [n]."""
    pairs = np.array(batching, dtype=np.int64)
    return pairs[:, 0], pairs[:, 1]


def weight_bytes(cohort: Cohort) -> float:
    """The verifier's memory without any rows."""
    return float(cohort.verifier.needed_bytes(0, 0, 0))


def interval_max(values: Floats) -> Floats:
    """The largest value of each interval [j, i), as a table [K + 1, K + 1]; 0 for an empty one."""
    k = len(values)
    table = np.zeros((k + 1, k + 1))
    rows = np.where(np.arange(k)[None, :] >= np.arange(k)[:, None], values[None, :], 0.0)
    table[:-1, 1:] = np.maximum.accumulate(rows, axis=1)
    return table
