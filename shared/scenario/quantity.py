"""Times and shares in a scenario: a number, or a range that is drawn from; times with their unit.

    0.78        0.5..0.95        33.9 ms        3..80 ms        0.354 verify        500..2000 kbit

`verify` is the time that the verifier at hand takes for one row of one token, so that a scenario keeps its balance
from one machine to another.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

_NUMBER: Final = r"\d+(?:\.\d+)?"
_QUANTITY: Final = re.compile(rf"^\s*({_NUMBER})(?:\s*\.\.\s*({_NUMBER}))?\s*([a-z]*)\s*$")
_MS: Final = {"ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True)
class Quantity:
    """low..high, equal when it is a number; unit: "", "ms", "s", "verify" or "kbit" (a second)."""

    low: float
    high: float
    unit: str = ""

    def at(self, share: float) -> float:
        """The value so far along the range, 0 to 1, in the quantity's own unit."""
        return self.low + share * (self.high - self.low)

    def ms_at(self, share: float, verify_ms: float) -> float:
        """Of a time: milliseconds so far along the range."""
        return self.at(share) * (verify_ms if self.unit == "verify" else _MS[self.unit])

    def __str__(self) -> str:
        ends = f"{self.low:g}" if self.low == self.high else f"{self.low:g}..{self.high:g}"
        return f"{ends} {self.unit}".strip()


def parse(value: Any) -> Quantity:
    """A quantity as a file has it. Raises ValueError."""
    if isinstance(value, Quantity):
        return value
    found = _QUANTITY.match(str(value)) if isinstance(value, int | float | str) else None
    if found is None or isinstance(value, bool):
        raise ValueError("a number or a range low..high, a time with its unit (ms, s, verify), like 3..80 ms")
    low, high = float(found[1]), float(found[2] or found[1])
    if high < low:
        raise ValueError(f"the range {value} runs backwards")
    return Quantity(low, high, found[3])


def _time(value: Any) -> Quantity:
    quantity = parse(value)
    if quantity.unit not in ("ms", "s", "verify"):
        if quantity.low == quantity.high == 0 and not quantity.unit:
            return Quantity(0.0, 0.0, "ms")
        raise ValueError(f"a time needs a unit: ms, s, or verify; not {str(value)!r}")
    return quantity


def _seconds(value: Any) -> Quantity:
    quantity = parse(value)
    if quantity.unit != "s":
        raise ValueError(f"seconds, like 3 s or 2..6 s; not {str(value)!r}")
    return quantity


def _bandwidth(value: Any) -> Quantity:
    quantity = parse(value)
    if quantity.unit != "kbit" or not quantity.low > 0:
        raise ValueError(f"more than 0 kbit a second, like 500 kbit or 500..2000 kbit; not {str(value)!r}")
    return quantity


def _share(value: Any) -> Quantity:
    quantity = parse(value)
    if quantity.unit or quantity.high >= 1:
        raise ValueError(f"a probability in [0, 1) or a range of them; not {str(value)!r}")
    return quantity


_text = PlainSerializer(str, return_type=str)
Time = Annotated[Quantity, BeforeValidator(_time), _text]
Seconds = Annotated[Quantity, BeforeValidator(_seconds), _text]
Bandwidth = Annotated[Quantity, BeforeValidator(_bandwidth), _text]
Share = Annotated[Quantity, BeforeValidator(_share), _text]
