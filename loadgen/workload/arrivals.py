"""Arrival times: a process of unit rate, time-scaled by a rate that may change. Pure.

A process of rate r(t) is one of rate 1 seen through N(t), the integral of r from 0 to t: the i-th arrival is where N
reaches the i-th point of the unit process. So every distribution of gaps combines with every rate function.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import Literal

import numpy as np

Gaps = Literal["constant", "poisson", "gamma"]


class ArrivalError(ValueError):
    """An invalid rate, stage or burstiness; the text names it."""


@dataclass(frozen=True, slots=True)
class RateStage:
    """The rate changes linearly from first to last (requests per second) within `seconds`."""

    seconds: float
    first: float
    last: float

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ArrivalError(f"a stage of {self.seconds} s: it must last more than 0 s")
        for rate in (self.first, self.last):
            if not (rate >= 0 and isfinite(rate)):
                raise ArrivalError(f"a rate of {rate} requests/s: it must be 0 or more")
        if not isfinite(self.seconds) and self.first != self.last:
            raise ArrivalError("a stage without an end must have a constant rate")

    @property
    def requests(self) -> float:
        """Expected number of arrivals in this stage."""
        mean = (self.first + self.last) / 2
        return self.seconds * mean if mean > 0 else 0.0

    def when(self, requests: float) -> float:
        """Seconds into the stage until `requests` arrivals are expected."""
        slope = (self.last - self.first) / self.seconds if isfinite(self.seconds) else 0.0
        root = sqrt(max(0.0, self.first**2 + 2 * slope * requests))
        return 2 * requests / (self.first + root) if requests > 0 else 0.0


def constant_rate(rate: float) -> tuple[RateStage, ...]:
    """One stage of a constant rate, without an end. Raises ArrivalError."""
    if not rate > 0:
        raise ArrivalError(f"a rate of {rate} requests/s: it must be more than 0")
    return (RateStage(inf, rate, rate),)


def parse_stages(text: str) -> tuple[RateStage, ...]:
    """`5:30 10..40:60`: 5/s for 30 s, then from 10/s to 40/s within 60 s. Raises ArrivalError."""
    stages = []
    for word in text.replace(",", " ").split():
        rates, _, seconds = word.partition(":")
        first, _, last = rates.partition("..")
        try:
            stages.append(RateStage(float(seconds), float(first), float(last or first)))
        except ArrivalError:
            raise
        except ValueError:
            raise ArrivalError(f"stage {word!r}: give RATE:SECONDS or FROM..TO:SECONDS") from None
    if not stages:
        raise ArrivalError("no stages: give RATE:SECONDS, separated by spaces")
    return tuple(stages)


def arrivals(
    stages: Sequence[RateStage], gaps: Gaps, rng: np.random.Generator, burstiness: float = 1.0
) -> Iterator[float]:
    """Arrival times in seconds from the start, ascending, up to the end of the last stage.

    constant: the first arrival is at 0. gamma: gaps of shape `burstiness` (1 is Poisson, less is burstier), as in vLLM.
    Raises ArrivalError.
    """
    if not (burstiness > 0 and isfinite(burstiness)):
        raise ArrivalError(f"a burstiness of {burstiness}: it must be more than 0")
    points = _unit_process(gaps, rng, burstiness)
    began, passed = 0.0, 0.0  # seconds and expected requests before the present stage
    point = next(points)
    for stage in stages:
        while point - passed < stage.requests:
            yield began + stage.when(point - passed)
            point = next(points)
        began, passed = began + stage.seconds, passed + stage.requests


def _unit_process(gaps: Gaps, rng: np.random.Generator, burstiness: float) -> Iterator[float]:
    at = 0.0
    if gaps == "constant":
        while True:
            yield at
            at += 1.0
    shape = burstiness if gaps == "gamma" else 1.0
    while True:
        for gap in rng.gamma(shape, 1.0 / shape, size=1024).tolist():
            at += gap
            yield at
