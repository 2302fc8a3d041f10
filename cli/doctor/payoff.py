"""Whether speculation pays, from measured costs. Pure.

    tok/s(n, k) = 1000 · n · τ(α, k) / ( k · draft(⌈n / w⌉) + verify(n, k + 1) )
    τ(α, k)     = 1 + α + α² + … + α^k

n users draft k tokens each on w devices, then all are verified in one pass: draft(s) is the milliseconds of one
decode of s sessions on one device, verify(n, t) those of a pass over n rows of t new tokens. τ is the tokens a
verification emits when each drafted one is accepted with chance α, the corrected or bonus token included.
Messages between processes are left out, and so is everything that a better plan than draft-then-verify gains.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FORMULA: Final = "tok/s = 1000 · n · (1 + α + … + α^k) / (k · draft ms + verify ms)"


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured on this machine.

    draft_ms: one decode by sessions in it. verify_ms: one pass by rows, then by new tokens a row. devices: draft
    workers the users are dealt to.
    """

    alpha: float
    draft_ms: Mapping[int, float]
    verify_ms: Mapping[int, Mapping[int, float]]
    devices: int


def emitted(alpha: float, k: int) -> float:
    """τ: tokens one verification emits. emitted(0.5, 2) = 1.75."""
    return sum(alpha**depth for depth in range(k + 1))


def tokens_per_s(costs: Costs, users: int, k: int) -> float:
    """Tokens a second of all users together; users: one of those that were measured."""
    drafting = k * between(costs.draft_ms, -(-users // costs.devices)) if k else 0.0
    return 1000 * users * emitted(costs.alpha, k) / (drafting + between(costs.verify_ms[users], k + 1))


def best_length(costs: Costs, users: int, longest: int) -> int:
    """The draft length up to `longest` with the most tokens a second; 0 where speculation does not pay."""
    return max(range(longest + 1), key=lambda k: tokens_per_s(costs, users, k))


def between(measured: Mapping[int, float], at: int) -> float:
    """A measured figure, on the line between its neighbours; beyond the last, on the line through the last two."""
    known = sorted(measured)
    if at in measured or len(known) == 1:
        return measured.get(at, measured[known[0]])
    right = min(max(bisect_left(known, at), 1), len(known) - 1)
    low, high = known[right - 1], known[right]
    return measured[low] + (measured[high] - measured[low]) * (at - low) / (high - low)
