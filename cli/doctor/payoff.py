"""Expected throughput with and without speculation, from measured costs. Pure.

    tok/s(n, k) = 1000 · n · τ(α, k) / ( k · draft(⌈n / w⌉) + verify(n, k + 1) )
    τ(α, k)     = 1 + α + α² + … + α^k

n users draft k tokens each on w devices, then one pass verifies all of them. draft(s): duration in ms of one decode of
s sessions on one device. verify(n, t): duration in ms of a pass over n rows of t new tokens. τ: expected tokens per
verification, including the corrected or bonus token, when each drafted token is accepted with probability α. The model
ignores communication and everything that a better schedule than draft-then-verify gains.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FORMULA: Final = "tok/s = 1000 · n · (1 + α + … + α^k) / (k · draft ms + verify ms)"


@dataclass(frozen=True, slots=True)
class MeasuredCosts:
    """Costs measured on this machine.

    alpha: acceptance probability. draft_ms: duration of a decode, by sessions in it. verify_ms: duration of a pass, by
    rows, then by new tokens per row. devices: draft workers among which the users are divided.
    """

    alpha: float
    draft_ms: Mapping[int, float]
    verify_ms: Mapping[int, Mapping[int, float]]
    devices: int


def emitted(alpha: float, k: int) -> float:
    """τ: expected tokens per verification. Example: emitted(0.5, 2) = 1.75."""
    return sum(alpha**depth for depth in range(k + 1))


def tokens_per_s(costs: MeasuredCosts, users: int, k: int) -> float:
    """Throughput of all users together in tokens/s. users: a row count that was measured."""
    drafting = k * between(costs.draft_ms, -(-users // costs.devices)) if k else 0.0
    return 1000 * users * emitted(costs.alpha, k) / (drafting + between(costs.verify_ms[users], k + 1))


def best_length(costs: MeasuredCosts, users: int, max_length: int) -> int:
    """The draft length up to max_length with the highest throughput; 0 where speculation does not pay."""
    return max(range(max_length + 1), key=lambda k: tokens_per_s(costs, users, k))


def between(measured: Mapping[int, float], at: int) -> float:
    """Linear interpolation between measured points; extrapolation through the two nearest ones beyond them."""
    points = sorted(measured)
    if at in measured or len(points) == 1:
        return measured.get(at, measured[points[0]])
    right = min(max(bisect_left(points, at), 1), len(points) - 1)
    low, high = points[right - 1], points[right]
    return measured[low] + (measured[high] - measured[low]) * (at - low) / (high - low)
