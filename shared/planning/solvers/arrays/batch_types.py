"""Types of batches: equal batches of equal users are computed once and counted.

Many equal users make many equal batches. Within a batch, equal users have equal draft lengths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.planning.solvers.arrays.options import Batches
from shared.planning.solvers.arrays.problem_arrays import Floats, Ints, ProblemArrays

Members = tuple[int, ...]


@dataclass(frozen=True)
class BatchTypes:
    """The types of the batches of some partitions, the types of one partition next to each other.

    batches: one batch of each type, in which the first of equal users stands for all. multiplicity: batches of each
    type [A]. starts: first type of each partition. partition: of each type [A]. type_of_batch: of each given batch.
    members: of the given batches, end to end. owner: the given batch of each member. entry: the place of each member
    among the members of `batches`.
    """

    batches: Batches
    multiplicity: Floats
    starts: Ints
    partition: Ints
    type_of_batch: Ints
    members: Ints
    owner: Ints
    entry: Ints

    @classmethod
    def of(cls, arrays: ProblemArrays, partitions: Sequence[Sequence[Members]]) -> "BatchTypes":
        """The types of partitions into batches of user indices, none of them empty."""
        sizes = np.fromiter(map(len, partitions), dtype=np.int64, count=len(partitions))
        starts = np.cumsum(sizes) - sizes
        batches_given = Batches.of(arrays, [batch for partition in partitions for batch in partition])
        if arrays.class_of is not None:
            return _compact(arrays, batches_given, arrays.class_of, np.repeat(np.arange(len(sizes)), sizes))
        return cls.single(batches_given, starts)

    @classmethod
    def single(cls, batches: Batches, starts: Ints) -> "BatchTypes":
        """Each batch as a type of its own. starts: the first batch of each partition."""
        partition = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(batches))))
        itself, each = np.arange(len(batches)), np.arange(len(batches.members))
        multiplicity = np.ones(len(batches))
        return cls(batches, multiplicity, starts, partition, itself, batches.members, batches.owner, each)


def _compact(arrays: ProblemArrays, batches_given: Batches, class_of: Ints, partition: Ints) -> BatchTypes:
    """Join equal members of a batch into one entry, then batches with equal entries into one type."""
    key, entry, counts = np.unique(
        batches_given.owner * len(arrays) + class_of[batches_given.members],
        return_inverse=True,
        return_counts=True,
    )
    owner, member = np.divmod(key, len(arrays))
    edges = np.searchsorted(owner, np.arange(len(batches_given) + 1))
    names = [
        (which, member[low:high].tobytes(), counts[low:high].tobytes())
        for low, high, which in zip(edges[:-1], edges[1:], partition.tolist(), strict=True)
    ]
    number: dict[tuple[int, bytes, bytes], int] = {}
    types = np.array([number.setdefault(name, len(number)) for name in names])
    _, first, multiplicity = np.unique(types, return_index=True, return_counts=True)
    sizes = np.diff(edges)[first]
    begins = np.cumsum(sizes) - sizes
    kept = np.repeat(edges[first] - begins, sizes) + np.arange(int(sizes.sum()))
    batches = Batches(arrays, member[kept], begins, arrays.count[member[kept]] * counts[kept])
    # Equal batches have their entries in the same order.
    owned = begins[types[batches_given.owner]] + entry - edges[batches_given.owner]
    starts = np.flatnonzero(np.diff(partition[first], prepend=-1))
    return BatchTypes(
        batches,
        multiplicity.astype(np.float64),
        starts,
        partition[first],
        types,
        batches_given.members,
        batches_given.owner,
        owned,
    )
