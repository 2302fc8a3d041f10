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
        members, count = batches.members, batches.count
        length = np.array(split.lengths, dtype=np.float64)[members]
        level = batches.sum(length * count) if arrays.packed else np.maximum.reduceat(length, batches.starts)
        verify = batches.verify_ms(level[:, None])[:, 0]
        loop = length * arrays.draft_ms[members] + arrays.comm_ms[members] + verify[batches.owner]
        busy = float(verify.sum())
        longest = float(loop.max())
        cycle = max(busy, longest)
        value = float((arrays.value[members, length.astype(np.int64)] * count).sum())
        return cls(
            float(arrays.objective.score(value, arrays.all_weight, cycle)), split, cycle, busy, longest
        )
