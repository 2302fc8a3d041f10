"""A plan as the solvers compare it."""

from dataclasses import dataclass

import numpy as np

from shared.planning.problem import Split
from shared.planning.solvers.arrays import Arrays
from shared.planning.solvers.options import Batches


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
        members = batches.members
        lengths = np.array(split.lengths)[members]
        level = batches.counted(lengths) if arrays.packed else np.maximum.reduceat(lengths, batches.starts)
        verify = batches.verify_ms(level[:, None])[:, 0]
        loops = lengths * arrays.draft_ms[members] + arrays.comm_ms[members] + verify[batches.owner]
        value = (arrays.values(members, lengths) * batches.count).sum()
        busy, loop = verify.sum(), float(loops.max())
        score = float(arrays.scores(value, busy, loop))
        busy_ms = arrays.copies * float(busy)
        return cls(score, split, max(busy_ms, loop), busy_ms, loop)
