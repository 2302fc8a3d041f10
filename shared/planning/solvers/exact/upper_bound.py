"""A score that no plan can exceed, for users too many to search.

If each user could choose the size b of its batch for itself, plans could only get better. A batch of b users with user
m in it takes at least t(b, l_m): under the padded law b rows as long as m's, under the packed one m's row and b - 1 of
the smallest. So Σ t_v(n) = Σ_m t_v(m's batch) / b_m >= Σ_m share(b_m, l_m), and m's loop takes at least its draft, link
and t(b_m, l_m). What remains couples users by Σ share <= S alone: a price p on it bounds V for every S, and intervals
of S are halved while their bound is the largest.
"""

import heapq
from math import sqrt

import numpy as np

from shared.planning.solvers.arrays.problem_arrays import Floats, ProblemArrays
from shared.planning.solvers.branch_and_bound.cycle_bounds import cycle_bound_range

PRICES = np.geomspace(0.02, 20.0, 60)  # of the value in a mean millisecond of the cycle


def upper_bound(arrays: ProblemArrays, precision: float = 1e-4) -> float:
    """A score at least as large as any plan's; at most `precision` (relative) above what this argument can prove."""
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
    """What Σ t_v is at most: everybody alone with the longest draft on the longest prefix."""
    max_draft, prefix = arrays.bounds.max_draft, float(arrays.prefix.max())
    return float(arrays.server.verify_ms(1.0, max_draft, max_draft, prefix, prefix) * arrays.count.sum())


class _Relaxed:
    """Tables over [user, batch size, draft length]."""

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
            room = server.needed_bytes(size, prefix, others + prefix)
        else:
            time = server.verify_ms(size, length, size * length, prefix, size * prefix)
            share = time / size
            room = server.needed_bytes(size, prefix, size * prefix)
        self._fits = np.broadcast_to(np.asarray(room) <= server.memory_bytes, np.shape(time))
        self._share: Floats = np.asarray(share)
        self._loop: Floats = length * arrays.draft_ms[:, None, None] + arrays.comm_ms[:, None, None] + time
        self._value = arrays.value[:, None, min_draft : max_draft + 1]

    def bound(self, low: float, high: float) -> float:
        """Of the scores of plans with a cycle between (ms)."""
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
