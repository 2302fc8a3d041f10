"""Times and shares in a scenario: a number, or a range to draw from; times have a unit.

    0.78        0.5..0.95        33.9 ms        3..80 ms        0.354 verify        500..2000 kbit        20 MHz

`verify` is the duration of a verification pass of one row with one token on this machine, so that a scenario keeps its
ratios from one machine to another.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

_NUMBER: Final = r"\d+(?:\.\d+)?"
_QUANTITY: Final = re.compile(rf"^\s*({_NUMBER})(?:\s*\.\.\s*({_NUMBER}))?\s*([a-zA-Z]*)\s*$")
_MS: Final = {"ms": 1.0, "s": 1e3}
_BAND: Final = {"kbit": 1e3, "kHz": 1e3, "MHz": 1e6}


@dataclass(frozen=True, slots=True)
class Quantity:
    """low..high, equal for a single number. unit: "", "ms", "s", "verify", "kbit" (per second), "kHz" or "MHz"."""

    low: float
    high: float
    unit: str = ""

    def at(self, share: float) -> float:
        """The value at a share (0 to 1) of the range, in the quantity's own unit."""
        return self.low + share * (self.high - self.low)

    def ms_at(self, share: float, verify_ms: float) -> float:
        """A time in milliseconds at a share (0 to 1) of the range."""
        return self.at(share) * (verify_ms if self.unit == "verify" else _MS[self.unit])

    @property
    def band_hz(self) -> float:
        """A band in Hz, or in bit/s."""
        return self.low * _BAND[self.unit]

    def __str__(self) -> str:
        ends = f"{self.low:g}" if self.low == self.high else f"{self.low:g}..{self.high:g}"
        return f"{ends} {self.unit}".strip()


def parse(value: Any) -> Quantity:
    """Parse a quantity from a file. Raises ValueError."""
    if isinstance(value, Quantity):
        return value
    parts = _QUANTITY.match(str(value)) if isinstance(value, int | float | str) else None
    if parts is None or isinstance(value, bool):
        raise ValueError("a number or a range low..high, a time with its unit (ms, s, verify), like 3..80 ms")
    low, high = float(parts[1]), float(parts[2] or parts[1])
    if high < low:
        raise ValueError(f"the range {value} is descending")
    return Quantity(low, high, parts[3])


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


def band_of(value: Any) -> Quantity:
    """Parse the band of a cell. Raises ValueError."""
    try:
        quantity = parse(value)
    except ValueError:
        quantity = NOTHING
    if quantity.unit not in _BAND or quantity.low != quantity.high or not quantity.low > 0:
        given = "it is missing" if value is None else f"not {str(value)!r}"
        raise ValueError(f"one bandwidth of more than 0, like 256 kbit (a second) or 20 MHz; {given}")
    return quantity


def _efficiency(value: Any) -> Quantity:
    try:
        quantity = parse(value)
    except ValueError:
        quantity = NOTHING
    if quantity.unit or not quantity.low > 0:
        raise ValueError(f"more than 0 bit/s/Hz, like 2 or 0.4..4; not {str(value)!r}")
    return quantity


def _share(value: Any) -> Quantity:
    quantity = parse(value)
    if quantity.unit or quantity.high >= 1:
        raise ValueError(f"a probability in [0, 1) or a range of them; not {str(value)!r}")
    return quantity


NOTHING: Final = Quantity(0.0, 0.0)
_text = PlainSerializer(str, return_type=str)
Time = Annotated[Quantity, BeforeValidator(_time), _text]
Seconds = Annotated[Quantity, BeforeValidator(_seconds), _text]
Bandwidth = Annotated[Quantity, BeforeValidator(_bandwidth), _text]
Band = Annotated[Quantity, BeforeValidator(band_of), _text]
Efficiency = Annotated[Quantity, BeforeValidator(_efficiency), _text]
Share = Annotated[Quantity, BeforeValidator(_share), _text]
