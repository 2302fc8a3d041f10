"""A problem as arrays: what the solvers compute with."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shared.planning.cost import Real
from shared.planning.objective import Objective
from shared.planning.problem import Bounds, PackedServer, Problem, Server

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
GAIN_THRESHOLDS = 24
GAIN_SAMPLE = 2000  # users at most whose gains are looked at for that
MAX_CLASSES, MAX_CLASS_USERS = 4, 64  # up to that many classes of equal users, of so many users
MEMORY_BATCHES = 8  # batches that memory makes, from which on they are many
MIN_CLASS_SIZE = 4  # users of a kind, on average, for whom it is worth to be counted


@dataclass(frozen=True)
class ProblemArrays:
    """M users. `count` of each: how many equal ones it stands for; `copies`: how often all batches are there.

    `value[m, l]`, [M, max_draft + 2]: what user m adds with a draft of l tokens; -inf below min_draft, and in the
    last column, so that l = -1 means "cannot".
    """

    server: Server
    bounds: Bounds
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
        """Of a problem."""
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
        """Pieces [P] of users who follow each other in the order, each as its members are on average."""
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
        """These users only, each of whom stands for so many equal ones."""
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
        """The longest drafts [M, K] of which every token gains at least so much, for GAINS thresholds that matter."""
        gain = np.diff(self.value[:, self.bounds.min_draft : self.bounds.max_draft + 1], axis=1)
        if gain.shape[1] == 0:
            return np.full((len(self), 1), self.bounds.min_draft)
        thresholds = np.quantile(gain[:: -(-len(self) // GAIN_SAMPLE)], np.linspace(0, 1, GAIN_THRESHOLDS))
        thresholds[-1] = np.inf  # nobody drafts more than it must
        thresholds = np.unique(thresholds)
        reached = np.searchsorted(
            thresholds, gain, side="right"
        )  # thresholds that a token keeps to [M, tokens]
        at = reached + np.arange(len(self))[:, None] * (len(thresholds) + 1)
        tokens = np.bincount(at.ravel(), minlength=len(self) * (len(thresholds) + 1)).reshape(len(self), -1)
        return np.asarray(self.bounds.min_draft + tokens[:, :0:-1].cumsum(axis=1)[:, ::-1])

    @cached_property
    def solo_verify_ms(self) -> tuple[Floats, Floats]:
        """t_v of each user alone with a draft of one token, and of two."""
        one, two = (
            np.asarray(self.server.verify_ms(1.0, n, n, self.prefix, self.prefix)) for n in (1.0, 2.0)
        )
        return one, two

    @cached_property
    def packed(self) -> bool:
        """Whether rows cost what they are, and not all as much as the longest."""
        return isinstance(self.server, PackedServer)

    @cached_property
    def total_weight(self) -> float:
        """The sum of all users' weights."""
        return self.copies * float((self.weight * self.count).sum())

    @cached_property
    def max_value(self) -> float:
        """What all users add with the longest drafts."""
        return self.copies * float((self.value[:, self.bounds.max_draft] * self.count).sum())

    @cached_property
    def first_equal(self) -> Ints:
        """The first user that each is equal to."""
        of = np.stack([self.draft_ms, self.comm_ms, self.prefix, self.weight, self.value[:, -2], self.count])
        order = np.lexsort(of)
        new = np.append(True, (np.diff(of[:, order], axis=1) != 0).any(axis=0))
        first = np.empty(len(self), dtype=np.int64)
        first[order] = order[new][np.cumsum(new) - 1]  # sorting is stable: the first of those that are equal
        return first

    @cached_property
    def memory_bound(self) -> bool:
        """Whether memory makes many batches of these users, so that the cycle is the sum of their verifications."""
        users, prefixes = float(self.count.sum()), float((self.count * self.prefix).sum())
        nobody = float(self.server.needed_bytes(0.0, 0.0, 0.0))
        room = float(self.server.needed_bytes(users, prefixes / users, prefixes)) - nobody
        return room > MEMORY_BATCHES * (self.server.memory_bytes - nobody)

    @cached_property
    def heterogeneous_users(self) -> bool:
        """Whether users are too different from each other to be counted by classes."""
        return len(self) > MAX_CLASS_USERS or len(np.unique(self.first_equal)) > min(
            MAX_CLASSES, len(self) // 2
        )

    @cached_property
    def class_of(self) -> Ints | None:
        """The first user that each is equal to; None where but few are equal to another."""
        return self.first_equal if len(np.unique(self.first_equal)) * MIN_CLASS_SIZE <= len(self) else None

    @cached_property
    def min_score(self) -> float:
        """Below any plan's: the least value in a cycle of thirty years."""
        min_value = float((self.value[:, self.bounds.min_draft] * self.count).sum())
        return float(self.objective.score(self.copies * min_value, self.total_weight, 1e12))

    def scores(self, value: Floats, verify_ms: Floats, cycle_bounds_ms: Real) -> Floats:
        """Of plans: Σ value and Σ t_v of each copy, and what the longest loop may take."""
        cycle = np.maximum(cycle_bounds_ms, self.copies * verify_ms)
        return np.asarray(self.objective.score(self.copies * value, self.total_weight, cycle))

    @cached_property
    def max_batches(self) -> int:
        """Batches at most."""
        limit = self.bounds.max_batches
        users = int(self.count.sum())
        return users if limit is None else min(users, limit)

    def affordable_lengths(self, members: Ints, slack_ms: Floats) -> Ints:
        """Tokens that members [E] draft within slack_ms [E, ...] after the link; -1 = the link alone takes longer.

        A trace of slack is forgiven, so that a draft fits into the very time that it takes.
        """
        shape = (-1,) + (1,) * (slack_ms.ndim - 1)
        tokens = slack_ms - self.comm_ms[members].reshape(shape)
        tokens /= self.draft_ms[members].reshape(shape)
        tokens += 1 + 1e-9  # so that cutting off what is behind the point is rounding down
        np.maximum(tokens, 0.0, out=tokens)
        np.minimum(tokens, self.bounds.max_draft + 1.0, out=tokens)
        drafts = tokens.astype(np.int64)
        drafts -= 1
        return drafts

    def values(self, members: Ints, drafts: Ints) -> Floats:
        """What members [E, ...] add with these drafts."""
        at = drafts + (members * self.value.shape[1]).reshape((-1,) + (1,) * (drafts.ndim - 1))
        return np.asarray(self._flat_value.take(at))

    @cached_property
    def _flat_value(self) -> Floats:
        return self.value.ravel()  # where a draft of -1 is found, too: at the end of the row before


def _values(alpha: Floats, weight: Floats, bounds: Bounds, objective: Objective) -> Floats:
    lengths = np.arange(bounds.max_draft + 1)
    emitted = (1 - alpha[:, None] ** (lengths + 1)) / (1 - alpha[:, None])  # [M, max_draft + 1]
    value = emitted
    if objective.name == "weighted":
        value = weight[:, None] * emitted
    elif objective.name == "fair":
        value = weight[:, None] * np.log(emitted)
    value[:, : bounds.min_draft] = -np.inf
    return np.concatenate([value, np.full((len(alpha), 1), -np.inf)], axis=1)
