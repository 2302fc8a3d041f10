"""Distributions of token counts: constant, uniform or lognormal. Pure."""

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np

MAX_TOKENS: Final = 1_000_000


class LengthError(ValueError):
    """An invalid length; the text gives the valid forms."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """A distribution of token counts: uniform from low to high; with sigma > 0 lognormal, clipped to low and high."""

    low: int
    high: int
    median: float = 0.0
    sigma: float = 0.0

    def draw(self, rng: np.random.Generator) -> int:
        """A random length."""
        if self.sigma > 0:
            return int(np.clip(round(rng.lognormal(log(self.median), self.sigma)), self.low, self.high))
        return int(rng.integers(self.low, self.high, endpoint=True))


def parse_lengths(text: str) -> Lengths:
    """`128`, `64..256` or `128~0.5` (median and sigma of a lognormal). Raises LengthError."""
    forms = "give 128, 64..256, or 128~0.5 for a lognormal distribution with this median and sigma"
    try:
        if "~" in text:
            median, sigma = (float(part) for part in text.split("~"))
            if not (1 <= median <= MAX_TOKENS and 0 < sigma <= 5):
                raise ValueError
            return Lengths(1, min(MAX_TOKENS, round(median * 64)), median, sigma)
        low, _, high = text.partition("..")
        lengths = Lengths(int(low), int(high or low))
    except ValueError:
        raise LengthError(f"{text!r} is not a number of tokens: {forms}") from None
    if not 1 <= lengths.low <= lengths.high <= MAX_TOKENS:
        raise LengthError(f"{text!r}: tokens must be from 1 to {MAX_TOKENS}: {forms}")
    return lengths
