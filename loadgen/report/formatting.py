"""Numbers as a reader sees them."""

from math import isfinite


def format_number(value: float | None, scale: float = 1.0, digits: int | None = None) -> str:
    """About three significant digits of value × scale; – for a value that was not measured."""
    if value is None or not isfinite(value):
        return "–"
    scaled = value * scale
    size = abs(scaled)
    decimals = digits if digits is not None else 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{scaled:,.{decimals}f}"


def percent(share: float | None) -> float | None:
    """A share as a percentage."""
    return None if share is None else 100 * share
