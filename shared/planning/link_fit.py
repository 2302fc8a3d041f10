"""What a link takes by the size of what crosses it: delay and rate apart, from rounds of different sizes."""

from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from math import inf, sqrt
from typing import Final

import numpy as np

OBSERVATIONS: Final = 64  # that a fit looks at, the newest
FIRST_FIT: Final = (
    8  # after so many observations, then after twice as many, and at last for each whole window
)
SPREAD_BYTES: Final = 8  # sizes that differ less say nothing
# Standard deviations of Kendall's S from which on a slope is believed, and a negative one, which accuses the device.
BELIEVED: Final = 3.0
ACCUSING: Final = 6.0


@dataclass(frozen=True, slots=True)
class LinkLaw:
    """Seconds = delay_s + s_per_byte · bytes, there and back together. s_per_byte: 0 where sizes make no difference.

    A negative one means that larger messages cross faster, which no link does: the device's times are not to be
    believed.
    """

    delay_s: float
    s_per_byte: float

    @property
    def bits_s(self) -> float:
        """The rate; inf where sizes make no difference."""
        return 8 / self.s_per_byte if self.s_per_byte else inf

    def comm_s(self, size: float) -> float:
        """Seconds for messages of `size` bytes in all."""
        return self.delay_s + self.s_per_byte * size


@dataclass(slots=True)
class LinkFit:
    """Fits a LinkLaw to the last OBSERVATIONS rounds by the Theil–Sen estimator: a quarter of outliers do not move it.

    The slope is the median of those between all pairs of rounds; the delay is the median of what it leaves. A slope
    counts only where Kendall's test of sizes against seconds leaves no doubt: otherwise jitter between messages of
    almost equal size would make a rate.
    """

    _seen: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=OBSERVATIONS))
    _new: int = 0
    _wait: int = FIRST_FIT
    _law: LinkLaw | None = None

    def observe(self, size: float, seconds: float) -> bool:
        """Add a round. size: bytes of its messages, there and back. Returns whether there is a new law."""
        self._seen.append((size, seconds))
        self._new += 1
        if self._new < self._wait:
            return False
        self._wait = len(self._seen)
        self._new, self._law = 0, fitted(*np.array(self._seen).T)
        return True

    @property
    def law(self) -> LinkLaw | None:
        """The law of the last fit; None before there was one."""
        return self._law


def fitted(sizes: np.ndarray, seconds: np.ndarray) -> LinkLaw:
    """The law of n ≥ 1 rounds. sizes, seconds: [n]."""
    slope = _slope(sizes, seconds) if np.ptp(sizes) >= SPREAD_BYTES else 0.0
    return LinkLaw(max(0.0, float(np.median(seconds - slope * sizes))), slope)


def _slope(sizes: np.ndarray, seconds: np.ndarray) -> float:
    """Theil–Sen's slope; 0.0 where chance may have made it. sizes, seconds: [n]."""
    first, second = _pairs(len(sizes))
    runs = sizes[second] - sizes[first]
    apart = runs != 0
    slopes = (seconds[second] - seconds[first])[apart] / runs[apart]
    deviations = float(np.sign(slopes).sum()) / _kendall_deviation(sizes)
    return float(np.median(slopes)) if deviations > BELIEVED or deviations < -ACCUSING else 0.0


@lru_cache(maxsize=OBSERVATIONS)
def _pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs i < j of `count` numbers. Two arrays [count·(count − 1) / 2]."""
    first, second = np.triu_indices(count, 1)
    return first, second


def _kendall_deviation(sizes: np.ndarray) -> float:
    """The standard deviation of Kendall's S without a slope, with ties among the sizes. sizes: [n]."""
    ties = np.unique(sizes, return_counts=True)[1].astype(float)
    n = float(len(sizes))
    return sqrt((n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18)
