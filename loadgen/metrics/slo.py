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
    """An invalid limit; the text gives the valid forms."""


_LATENCIES: Final[Mapping[str, Callable[[Record], float]]] = {"ttft": ttft_ms, "tpot": tpot_ms, "e2e": e2e_ms}
_OPERATORS: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def parse_goodput(text: str) -> dict[str, float]:
    """`ttft:500 tpot:50 e2e:3000`, milliseconds. Raises SloError."""
    limits = {}
    for word in text.replace(",", " ").split():
        name, _, value = word.partition(":")
        if name not in _LATENCIES or not re.fullmatch(r"\d+(\.\d+)?", value):
            raise SloError(f"goodput {word!r}: give ttft:MS, tpot:MS or e2e:MS")
        limits[name] = float(value)
    return limits


def good(record: Record, limits: Mapping[str, float]) -> bool:
    """Whether a request met every limit. TPOT of a single token counts as met."""
    if not answered(record):
        return False
    took = {name: _LATENCIES[name](record) for name in limits}
    return all(math.isnan(ms) or ms <= limits[name] for name, ms in took.items())


@dataclass(frozen=True, slots=True)
class Assertion:
    """`metric < limit`, with a metric's name in the result file."""

    metric: str
    relation: str
    limit: float

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.limit:g}"

    def check(self, metrics: Mapping[str, object]) -> None:
        """Raises SloError if results with these metrics lack the asserted one."""
        known = sorted(name for name, value in metrics.items() if isinstance(value, int | float))
        if self.metric not in known:
            raise SloError(f"--assert {self}: unknown metric {self.metric!r}; known: {', '.join(known)}")

    def fails(self, metrics: Mapping[str, object]) -> str:
        """Why the assertion does not hold, "" if it holds."""
        value = metrics.get(self.metric)
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
            raise SloError(f"{text!r}: give METRIC<NUMBER, for example p99_ttft_scheduled_ms<500")
        found.append(Assertion(match[1], match[2], float(match[3])))
    return found
