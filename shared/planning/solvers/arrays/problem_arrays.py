"""A planning problem as arrays, on which the solvers compute."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shared.planning.cost import Real
from shared.planning.objective import Objective
from shared.planning.problem import LengthBounds, PackedServer, Problem, Server

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
GAIN_THRESHOLDS = 24  # of lengths_by_gain
GAIN_SAMPLE = 2000  # users whose gains these thresholds are taken from, at most
MAX_CLASSES, MAX_CLASS_USERS = 4, 64  # users are counted by classes up to so many classes and users
MEMORY_BATCHES = 8  # batches that memory requires, from which on the problem counts as memory-bound
MIN_CLASS_SIZE = 4  # mean size of a class from which on computing by class pays


@dataclass(frozen=True)
class ProblemArrays:
    """M users as arrays [M].

    count: equal users that each one stands for. copies: how often all batches occur. value: what user m adds with a
    draft of l tokens, [M, max_draft + 2]; -inf below min_draft and in the last column, so that l = -1 means "cannot".
    """

    server: Server
    bounds: LengthBounds
    objective: Objective
    draft_ms: Floats
    comm_ms: Floats
    prefix: Floats
    weight: Floats
    count: Floats
    value: Floats
    copies: int = 1

    def __len__(self) -> int:
        return len(self.draft_ms)

    @classmethod
    def of(cls, problem: Problem, objective: Objective) -> "ProblemArrays":
        """The arrays of a problem under an objective."""
        users, bounds = problem.users, problem.bounds
        column = {
            name: np.array([getattr(user, name) for user in users], dtype=np.float64)
            for name in ("alpha", "draft_ms", "comm_ms", "prefix", "weight")
        }
        return cls(
            server=problem.server,
            bounds=bounds,
            objective=objective,
            draft_ms=np.maximum(column["draft_ms"], 1e-9),
            comm_ms=column["comm_ms"],
            prefix=column["prefix"],
            weight=column["weight"],
            count=np.ones(len(users)),
            value=_values(column["alpha"], column["weight"], bounds, objective),
        )

    def pooled(self, order: Ints, starts: Ints) -> "ProblemArrays":
        """Pieces [P] of users who follow each other in the order. A piece is the average of its members.

        starts: where each piece begins in the order.
        """
        count = np.add.reduceat(self.count[order], starts)

        def mean(of: Floats) -> Floats:
            weighed = of[order] * self.count[order].reshape((-1,) + (1,) * (of.ndim - 1))
            return np.add.reduceat(weighed, starts, axis=0) / count.reshape((-1,) + (1,) * (of.ndim - 1))

        return replace(
            self,
            count=count,
            draft_ms=mean(self.draft_ms),
            comm_ms=mean(self.comm_ms),
            prefix=mean(self.prefix) if self.packed else np.maximum.reduceat(self.prefix[order], starts),
            weight=mean(self.weight),
            value=mean(self.value),
        )

    def representing(self, users: Ints, count: Floats, copies: int = 1) -> "ProblemArrays":
        """Only these users. Each one stands for `count` equal users."""
        return replace(
            self,
            draft_ms=self.draft_ms[users],
            comm_ms=self.comm_ms[users],
            prefix=self.prefix[users],
            weight=self.weight[users],
            value=self.value[users],
            count=count,
            copies=copies,
        )

    @cached_property
    def lengths_by_gain(self) -> Ints:
        """The longest drafts whose every token gains at least a threshold, for K thresholds [M, K].

        The thresholds are quantiles of all gains, GAIN_THRESHOLDS at most.
        """
        gain = np.diff(self.value[:, self.bounds.min_draft : self.bounds.max_draft + 1], axis=1)
        if gain.shape[1] == 0:
            return np.full((len(self), 1), self.bounds.min_draft)
        thresholds = np.quantile(gain[:: -(-len(self) // GAIN_SAMPLE)], np.linspace(0, 1, GAIN_THRESHOLDS))
        thresholds[-1] = np.inf  # here all drafts have the minimum length
        thresholds = np.unique(thresholds)
        reached = np.searchsorted(
            thresholds, gain, side="right"
        )  # thresholds that each token reaches [M, tokens]
        at = reached + np.arange(len(self))[:, None] * (len(thresholds) + 1)
        tokens = np.bincount(at.ravel(), minlength=len(self) * (len(thresholds) + 1)).reshape(len(self), -1)
        return np.asarray(self.bounds.min_draft + tokens[:, :0:-1].cumsum(axis=1)[:, ::-1])

    @cached_property
    def solo_verify_ms(self) -> tuple[Floats, Floats]:
        """t_v of each user alone with a draft of one token, and of two tokens; ms [M]."""
        one, two = (
            np.asarray(self.server.verify_ms(1.0, n, n, self.prefix, self.prefix)) for n in (1.0, 2.0)
        )
        return one, two

    @cached_property
    def packed(self) -> bool:
        """Whether the server has the packed law."""
        return isinstance(self.server, PackedServer)

    @cached_property
    def total_weight(self) -> float:
        """The sum of the weights of all users."""
        return self.copies * float((self.weight * self.count).sum())

    @cached_property
    def max_value(self) -> float:
        """The sum of values with the longest drafts."""
        return self.copies * float((self.value[:, self.bounds.max_draft] * self.count).sum())

    @cached_property
    def first_equal(self) -> Ints:
        """For each user, the first user that is equal to it [M]."""
        of = np.stack([self.draft_ms, self.comm_ms, self.prefix, self.weight, self.value[:, -2], self.count])
        order = np.lexsort(of)
        new = np.append(True, (np.diff(of[:, order], axis=1) != 0).any(axis=0))
        first = np.empty(len(self), dtype=np.int64)
        first[order] = order[new][
            np.cumsum(new) - 1
        ]  # the sort is stable, so this is the first of its equals
        return first

    @cached_property
    def memory_bound(self) -> bool:
        """Whether memory requires many batches, so that the cycle is the sum of the verifications."""
        users, prefixes = float(self.count.sum()), float((self.count * self.prefix).sum())
        empty = float(self.server.needed_bytes(0.0, 0.0, 0.0))
        needed = float(self.server.needed_bytes(users, prefixes / users, prefixes)) - empty
        return needed > MEMORY_BATCHES * (self.server.memory_bytes - empty)

    @cached_property
    def heterogeneous_users(self) -> bool:
        """Whether the users are too many or too different to be counted by classes."""
        return len(self) > MAX_CLASS_USERS or len(np.unique(self.first_equal)) > min(
            MAX_CLASSES, len(self) // 2
        )

    @cached_property
    def class_of(self) -> Ints | None:
        """As first_equal; None where classes are too small for computing by class to pay."""
        return self.first_equal if len(np.unique(self.first_equal)) * MIN_CLASS_SIZE <= len(self) else None

    @cached_property
    def min_score(self) -> float:
        """A score below that of any plan: the minimum value in a cycle of thirty years."""
        min_value = float((self.value[:, self.bounds.min_draft] * self.count).sum())
        return float(self.objective.score(self.copies * min_value, self.total_weight, 1e12))

    def scores(self, value: Floats, verify_ms: Floats, cycle_bounds_ms: Real) -> Floats:
        """Scores of plans.

        value, verify_ms: Σ value and Σ t_v of one copy. cycle_bounds_ms: bounds on the longest loop.
        """
        cycle = np.maximum(cycle_bounds_ms, self.copies * verify_ms)
        return np.asarray(self.objective.score(self.copies * value, self.total_weight, cycle))

    @cached_property
    def max_batches(self) -> int:
        """The number of batches at most."""
        limit = self.bounds.max_batches
        users = int(self.count.sum())
        return users if limit is None else min(users, limit)

    def affordable_lengths(self, members: Ints, slack_ms: Floats) -> Ints:
        """The longest drafts of members [E] within slack_ms [E, ...], link included; -1: not even the link fits.

        A trace of slack is forgiven, so that a draft fits into exactly the time that it takes.
        """
        shape = (-1,) + (1,) * (slack_ms.ndim - 1)
        tokens = slack_ms - self.comm_ms[members].reshape(shape)
        tokens /= self.draft_ms[members].reshape(shape)
        tokens += 1 + 1e-9  # so that truncation rounds down
        np.maximum(tokens, 0.0, out=tokens)
        np.minimum(tokens, self.bounds.max_draft + 1.0, out=tokens)
        drafts = tokens.astype(np.int64)
        drafts -= 1
        return drafts

    def values(self, members: Ints, drafts: Ints) -> Floats:
        """The values of members [E, ...] with these drafts."""
        at = drafts + (members * self.value.shape[1]).reshape((-1,) + (1,) * (drafts.ndim - 1))
        return np.asarray(self._flat_value.take(at))

    @cached_property
    def _flat_value(self) -> Floats:
        return self.value.ravel()  # a draft of -1 indexes the end of the row before, which is -inf


def _values(alpha: Floats, weight: Floats, bounds: LengthBounds, objective: Objective) -> Floats:
    lengths = np.arange(bounds.max_draft + 1)
    emitted = (1 - alpha[:, None] ** (lengths + 1)) / (1 - alpha[:, None])  # [M, max_draft + 1]
    value = emitted
    if objective.name == "weighted":
        value = weight[:, None] * emitted
    elif objective.name == "fair":
        value = weight[:, None] * np.log(emitted)
    value[:, : bounds.min_draft] = -np.inf
    return np.concatenate([value, np.full((len(alpha), 1), -np.inf)], axis=1)
