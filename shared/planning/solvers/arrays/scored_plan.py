"""A plan with its score, as solvers compare plans."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays.batch_types import BatchTypes
from shared.planning.solvers.arrays.options import Batches
from shared.planning.solvers.arrays.problem_arrays import Ints, ProblemArrays


@dataclass(frozen=True)
class ScoredPlan:
    """A plan and its score.

    cycle_ms: S. busy_ms: Σ t_v, the time of a cycle in which the verifier is busy. loop_ms: the longest t_d + t_v.
    """

    score: float
    split: Split
    cycle_ms: float
    busy_ms: float
    loop_ms: float

    @classmethod
    def of(cls, arrays: ProblemArrays, split: Split) -> "ScoredPlan":
        """The plan of these batches and lengths, which must be within memory and bounds."""
        batches = Batches.of(arrays, split.batches)
        types = BatchTypes.single(batches, np.zeros(1, dtype=np.int64))
        return cls.all_of(arrays, types, np.array(split.lengths)[batches.members], [split])[0]

    @classmethod
    def all_of(
        cls, arrays: ProblemArrays, types: BatchTypes, lengths: Ints, splits: Sequence[Split]
    ) -> "list[ScoredPlan]":
        """The plans of some partitions, given their types and the draft lengths of the types' members."""
        batches, starts, members = types.batches, types.starts, types.batches.members
        level = batches.counted(lengths) if arrays.packed else np.maximum.reduceat(lengths, batches.starts)
        verify = batches.verify_ms(level[:, None])[:, 0]
        loops = lengths * arrays.draft_ms[members] + arrays.comm_ms[members] + verify[batches.owner]
        loop = np.maximum.reduceat(loops, batches.starts[starts])
        value = np.add.reduceat(batches.counted(arrays.values(members, lengths)) * types.multiplicity, starts)
        busy = np.add.reduceat(verify * types.multiplicity, starts)
        score, busy_ms = arrays.scores(value, busy, loop), arrays.copies * busy
        numbers = zip(score.tolist(), splits, busy_ms.tolist(), loop.tolist(), strict=True)
        return [
            cls(score_each, split, max(busy_each, longest), busy_each, longest)
            for score_each, split, busy_each, longest in numbers
        ]
