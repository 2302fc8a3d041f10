"""When requests arrive: gaps of a unit rate, stretched by a rate that may change. Pure.

A process of rate r(t) is one of rate 1 seen through N(t), the integral of r from 0 to t: the i-th arrival is where N
reaches the i-th point of the unit process. So every kind of gap goes with every course of the rate.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import Literal

import numpy as np

Gaps = Literal["constant", "poisson", "gamma"]


class ArrivalError(ValueError):
    """A rate, a stage or a burstiness that cannot be; the text names it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """For so many seconds the rate goes from first to last, both requests per second, in a straight line."""

    seconds: float
    first: float
    last: float

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ArrivalError(f"a stage lasts {self.seconds} s; it has to last more than 0")
        for rate in (self.first, self.last):
            if not (rate >= 0 and isfinite(rate)):
                raise ArrivalError(f"a rate of {rate} requests/s; 0 or more is a rate")
        if not isfinite(self.seconds) and self.first != self.last:
            raise ArrivalError("a stage without an end has one rate")

    @property
    def requests(self) -> float:
        """Expected in this stage."""
        mean = (self.first + self.last) / 2
        return self.seconds * mean if mean > 0 else 0.0

    def when(self, requests: float) -> float:
        """Seconds into the stage at which so many are expected."""
        slope = (self.last - self.first) / self.seconds if isfinite(self.seconds) else 0.0
        root = sqrt(max(0.0, self.first**2 + 2 * slope * requests))
        return 2 * requests / (self.first + root) if requests > 0 else 0.0


def steady(rate: float) -> tuple[Stage, ...]:
    """One rate, without an end. Raises ArrivalError."""
    if not rate > 0:
        raise ArrivalError(f"a rate of {rate} requests/s; it has to be more than 0")
    return (Stage(inf, rate, rate),)


def parse_stages(text: str) -> tuple[Stage, ...]:
    """`5:30 10..40:60`: 5/s for 30 s, then from 10/s to 40/s within 60 s. Raises ArrivalError."""
    stages = []
    for word in text.replace(",", " ").split():
        rates, _, seconds = word.partition(":")
        first, _, last = rates.partition("..")
        try:
            stages.append(Stage(float(seconds), float(first), float(last or first)))
        except ArrivalError:
            raise
        except ValueError:
            raise ArrivalError(f"stage {word!r}: RATE:SECONDS or FROM..TO:SECONDS is meant") from None
    if not stages:
        raise ArrivalError("no stages: RATE:SECONDS, separated by spaces")
    return tuple(stages)


def arrivals(
    stages: Sequence[Stage], gaps: Gaps, rng: np.random.Generator, burstiness: float = 1.0
) -> Iterator[float]:
    """Seconds from the start, ascending; ends with the last stage.

    constant: the first at 0. gamma: gaps of shape `burstiness` (1 is Poisson, less is burstier), vLLM's meaning.
    Raises ArrivalError.
    """
    if not (burstiness > 0 and isfinite(burstiness)):
        raise ArrivalError(f"a burstiness of {burstiness}; more than 0 is one")
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
