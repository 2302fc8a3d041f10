"""A plan as the solvers compare it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.batch_types import Types
from shared.planning.solvers.arrays.options import Batches
from shared.planning.solvers.arrays.problem_arrays import Arrays, Ints


@dataclass(frozen=True)
class Plan:
    """A plan and its score; in ms its cycle S, the part of it that the verifier is busy, and the longest loop."""

    score: float
    split: Split
    cycle_ms: float
    busy_ms: float
    loop_ms: float

    @classmethod
    def of(cls, arrays: Arrays, split: Split) -> "Plan":
        """Of batches and lengths that may be."""
        batches = Batches.of(arrays, split.batches)
        types = Types.single(batches, np.zeros(1, dtype=np.int64))
        return cls.all_of(arrays, types, np.array(split.lengths)[batches.members], [split])[0]

    @classmethod
    def all_of(cls, arrays: Arrays, types: Types, lengths: Ints, splits: Sequence[Split]) -> "list[Plan]":
        """Of partitions, given their types and lengths of the members of these."""
        batches, starts, members = types.batches, types.starts, types.batches.members
        level = batches.counted(lengths) if arrays.packed else np.maximum.reduceat(lengths, batches.starts)
        verify = batches.verify_ms(level[:, None])[:, 0]
        loops = lengths * arrays.draft_ms[members] + arrays.comm_ms[members] + verify[batches.owner]
        loop = np.maximum.reduceat(loops, batches.starts[starts])
        value = np.add.reduceat(batches.counted(arrays.values(members, lengths)) * types.times, starts)
        busy = np.add.reduceat(verify * types.times, starts)
        score, busy_ms = arrays.scores(value, busy, loop), arrays.copies * busy
        numbers = zip(score.tolist(), splits, busy_ms.tolist(), loop.tolist(), strict=True)
        return [cls(each, split, max(own, most), own, most) for each, split, own, most in numbers]
