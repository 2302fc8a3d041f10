"""Classes of equal users: only the number of users of a class in a batch matters."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.problem_arrays import ProblemArrays
from shared.planning.solvers.branch_and_bound.cycle_bounds import Batch


@dataclass(frozen=True)
class Classes:
    """Classes of equal users.

    arrays: one user of each class, which stands for all. users: the user indices of each class.
    """

    arrays: ProblemArrays
    users: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, arrays: ProblemArrays) -> "Classes":
        """The classes of users, each of whom stands for itself alone."""
        firsts, class_of = np.unique(arrays.first_equal, return_inverse=True)
        order = np.argsort(class_of, kind="stable")
        users = np.split(order, np.cumsum(np.bincount(class_of))[:-1])
        count = np.array([float(len(each)) for each in users])
        return cls(arrays.representing(firsts, count), tuple(tuple(each.tolist()) for each in users))

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of users of each class."""
        return tuple(len(each) for each in self.users)

    def expand(self, batches: Iterable[Batch]) -> Split:
        """The plan of all users from batches of classes."""
        waiting = [iter(each) for each in self.users]
        lengths = [0] * sum(self.counts)
        named = []
        for batch in batches:
            users = [next(waiting[which]) for which in batch.users]
            for m, length in zip(users, batch.lengths, strict=True):
                lengths[m] = length
            named.append(tuple(sorted(users)))
        return Split(tuple(named), tuple(lengths))
