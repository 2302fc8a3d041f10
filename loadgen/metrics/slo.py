"""Service-level objectives: limits on single requests (goodput) and on a run's metrics (--assert). Pure."""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadgen.metrics.summary import answered, e2e_ms, tpot_ms, ttft_ms
from loadgen.request import Record


class SloError(ValueError):
    """A limit that cannot be read; the text says what is meant."""


_LATENCIES: Final[Mapping[str, Callable[[Record], float]]] = {"ttft": ttft_ms, "tpot": tpot_ms, "e2e": e2e_ms}
_OPERATORS: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def parse_goodput(text: str) -> dict[str, float]:
    """`ttft:500 tpot:50 e2e:3000`, milliseconds. Raises SloError."""
    limits = {}
    for word in text.replace(",", " ").split():
        name, _, value = word.partition(":")
        if name not in _LATENCIES or not re.fullmatch(r"\d+(\.\d+)?", value):
            raise SloError(f"goodput {word!r}: ttft:MS, tpot:MS or e2e:MS is meant")
        limits[name] = float(value)
    return limits


def good(record: Record, limits: Mapping[str, float]) -> bool:
    """Whether a request kept every limit; one of a single token has no TPOT to break."""
    if not answered(record):
        return False
    took = {name: _LATENCIES[name](record) for name in limits}
    return all(math.isnan(ms) or ms <= limits[name] for name, ms in took.items())


@dataclass(frozen=True, slots=True)
class Assertion:
    """`figure < limit`, of the result's own names."""

    figure: str
    relation: str
    limit: float

    def __str__(self) -> str:
        return f"{self.figure} {self.relation} {self.limit:g}"

    def check(self, figures: Mapping[str, object]) -> None:
        """Raises SloError where results like these have no such figure."""
        known = sorted(name for name, value in figures.items() if isinstance(value, int | float))
        if self.figure not in known:
            raise SloError(f"--assert {self}: no figure {self.figure!r}; there are {', '.join(known)}")

    def fails(self, figures: Mapping[str, object]) -> str:
        """Why it does not hold, "" when it does."""
        value = figures.get(self.figure)
        if not isinstance(value, int | float):
            return f"{self}: it was not measured"
        if _OPERATORS[self.relation](value, self.limit):
            return ""
        return f"{self}: it is {value:.4g}"


def parse_assertions(texts: Sequence[str]) -> list[Assertion]:
    """`p99_ttft_scheduled_ms<500`. Raises SloError."""
    found = []
    for text in texts:
        match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>)\s*(-?\d+(?:\.\d+)?)\s*", text)
        if not match:
            raise SloError(f"{text!r}: FIGURE<NUMBER is meant, for example p99_ttft_scheduled_ms<500")
        found.append(Assertion(match[1], match[2], float(match[3])))
    return found
