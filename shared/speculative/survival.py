"""Survival: how likely a drafted token is to be accepted together with all drafted tokens before it.

A device estimates it as the product of its own probabilities of the tokens that it drew, up to and including that one.
A message carries one byte for it, in 255ths.
"""

from typing import Final

FULL: Final = 255  # a survival of 1


def to_byte(survival: float) -> int:
    """A survival between 0 and 1 in 255ths, rounded to the nearest."""
    return round(survival * FULL)


def from_byte(byte: int) -> float:
    """The survival that a byte stands for."""
    return byte / FULL
