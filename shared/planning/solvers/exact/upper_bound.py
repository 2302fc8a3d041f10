"""A proven upper bound of the score, for users too many for the exact search.

Plans only get better if each user may choose the size b of its batch independently. A batch of b users that includes
user m takes at least t(b, l_m): b rows as long as m's under the padded law; m's row and b - 1 of the smallest rows
under the packed law. So Σ t_v(n) = Σ_m t_v(m's batch) / b_m >= Σ_m share(b_m, l_m). The loop of m takes at least its
draft, its link and t(b_m, l_m). Then only Σ share <= S couples the users. A price p on that sum bounds V for every S.
The interval of S with the largest bound is halved until it is narrow.
"""

import heapq
from math import sqrt

import numpy as np

from shared.planning.solvers.arrays.problem_arrays import Floats, ProblemArrays
from shared.planning.solvers.branch_and_bound.cycle_bounds import cycle_bound_range

PRICES = np.geomspace(0.02, 20.0, 60)  # relative to the mean value of a millisecond


def upper_bound(arrays: ProblemArrays, precision: float = 1e-4) -> float:
    """A score that no plan exceeds.

    precision: width of the last interval of S, relative; it limits how far the result is above the relaxed optimum.
    """
    low, high = cycle_bound_range(arrays)
    high = max(high, _max_busy_ms(arrays))
    relaxed = _Relaxed(arrays)
    waiting = [(-relaxed.bound(low, high), low, high)]
    while True:
        bound, low, high = heapq.heappop(waiting)
        if high <= low * (1 + precision):
            return -bound
        middle = sqrt(low * high)
        for part in ((low, middle), (middle, high)):
            heapq.heappush(waiting, (-relaxed.bound(*part), *part))


def _max_busy_ms(arrays: ProblemArrays) -> float:
    """Σ t_v at most: every user alone, with the longest draft and the longest prefix."""
    max_draft, prefix = arrays.bounds.max_draft, float(arrays.prefix.max())
    return float(arrays.server.verify_ms(1.0, max_draft, max_draft, prefix, prefix) * arrays.count.sum())


class _Relaxed:
    """The relaxed problem as tables [user, batch size, draft length]."""

    def __init__(self, arrays: ProblemArrays) -> None:
        self._arrays = arrays
        min_draft, max_draft = arrays.bounds.min_draft, arrays.bounds.max_draft
        users = int(arrays.count.sum())
        size = np.arange(1, users + 1, dtype=np.float64)[None, :, None]
        length = np.arange(min_draft, max_draft + 1, dtype=np.float64)[None, None, :]
        prefix = arrays.prefix[:, None, None]
        server, smallest = arrays.server, float(arrays.prefix.min())
        if arrays.packed:
            others, drafted = (size - 1) * smallest, (size - 1) * min_draft
            time = server.verify_ms(size, length, drafted + length, prefix, others + prefix)
            base = server.verify_ms(0.0, 0.0, 0.0, 0.0, 0.0)
            share = base / size + server.verify_ms(1.0, length, length, prefix, prefix) - base
            needed = server.needed_bytes(size, prefix, others + prefix)
        else:
            time = server.verify_ms(size, length, size * length, prefix, size * prefix)
            share = time / size
            needed = server.needed_bytes(size, prefix, size * prefix)
        self._fits = np.broadcast_to(np.asarray(needed) <= server.memory_bytes, np.shape(time))
        self._share: Floats = np.asarray(share)
        self._loop: Floats = length * arrays.draft_ms[:, None, None] + arrays.comm_ms[:, None, None] + time
        self._value = arrays.value[:, None, min_draft : max_draft + 1]

    def bound(self, low: float, high: float) -> float:
        """A bound of the scores of plans with a cycle between low and high (ms)."""
        arrays = self._arrays
        value = np.where(self._fits & (self._loop <= high * (1 + 1e-12)), self._value, -np.inf)
        scale = max(1e-12, float(np.abs(arrays.max_value))) / high
        max_value = np.inf
        for price in (0.0, *PRICES * scale):
            each = (value - price * self._share).max(axis=(1, 2))
            max_value = min(max_value, float((each * arrays.count).sum()) + price * high)
        return (
            float(arrays.objective.score(max_value, arrays.total_weight, low))
            if max_value > -np.inf
            else -np.inf
        )
