"""Survival: how likely a drafted token is to be accepted together with all drafted tokens before it.

A device estimates it as the product of the draft model's own probabilities of the tokens that it drew, up to and
including that one. A message carries one byte for it, in 255ths, so that bytes never rise along a draft.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

FULL: Final = 255  # a survival of 1


def to_byte(survival: float) -> int:
    """A survival between 0 and 1 in 255ths, rounded to the nearest."""
    return round(survival * FULL)


def from_byte(byte: int) -> float:
    """The survival that a byte stands for."""
    return byte / FULL


class Survival:
    """The survival of a draft's tokens, one after another.

    stop_below: byte of the survival below which drafting on does not pay; 0 = it always does.
    """

    __slots__ = ("_stop_below", "_value", "bytes")

    def __init__(self, stop_below: int = 0) -> None:
        self.bytes = bytearray()  # of the tokens so far
        self._stop_below = stop_below
        self._value = 1.0

    def add(self, probability: float) -> bool:
        """Add a token that the draft model drew with this probability. Returns whether to draft on after it."""
        self._value *= probability
        self.bytes.append(to_byte(self._value))
        return self.bytes[-1] >= self._stop_below


def error_in(survival: Sequence[int], tokens: int) -> str:
    """What is wrong with the survival bytes of a draft of this many tokens; "" when nothing is."""
    if len(survival) != tokens:
        return f"{len(survival)} survival bytes for {tokens} tokens"
    if any(after > before for before, after in pairwise(survival)):
        return "survival rises along the draft"
    return ""
