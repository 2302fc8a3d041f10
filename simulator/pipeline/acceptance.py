"""Modelled text: what a target says after any prefix, and what a drafter proposes there. Both are functions of it.

The drafter's first candidate is right with a confidence of its own, q₁ = lo + (1 - lo) · V^((1 - p₁) / (p₁ - lo)) with
lo = 0.3 and V uniform, drawn anew for every prefix; its mean is p₁. Candidate r = 2..10 is right with
(1 - q₁) · 0.8 · 2^-(r - 1). Otherwise the drafter does not have the target's token among its candidates, which happens
with 0.2 · (1 - q₁), a little more.

Everything random is a hash of the seed and the prefix. So all methods meet the same text, and a prefix that is drafted
twice gets the same candidates.
"""

from dataclasses import dataclass
from math import log
from typing import Final

LOWEST: Final = 0.3
CANDIDATES: Final = 10
SHARES: Final = tuple(0.8 * 2.0 ** -(rank - 1) for rank in range(2, CANDIDATES + 1))
MASK: Final = (1 << 64) - 1
TOKENS: Final = 1 << 27  # choices of a token's upper bits; its lower four say which candidate it is


def mixed(value: int) -> int:
    """64 well mixed bits of 64 bits: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def unit(value: int) -> float:
    """A number in (0, 1] from 64 bits."""
    return ((value >> 11) + 1) * 2.0**-53


@dataclass(frozen=True, slots=True)
class ModelledText:
    """One user's text. p1: mean probability that the drafter's first candidate is right, above 0.3 and below 1.

    A prefix is known by its key, 64 bits.
    """

    seed: int
    p1: float

    def __post_init__(self) -> None:
        if not LOWEST < self.p1 < 1.0:
            raise ValueError(f"p1 {self.p1} must be above {LOWEST} and below 1")

    def start(self) -> int:
        """Key of the prompt."""
        return mixed(mixed(self.seed) ^ 0x5DEECE66D)

    @staticmethod
    def extend(key: int, token: int) -> int:
        """Key of a prefix and one more token."""
        return mixed(key ^ (token * 0x9FB21C651E98DF25 & MASK))

    def confidence(self, key: int) -> float:
        """q₁, the probability that the first candidate is right."""
        power = (1.0 - self.p1) / (self.p1 - LOWEST)
        above: float = unit(mixed(key ^ 1)) ** power
        return LOWEST + (1.0 - LOWEST) * above

    def candidates(self, key: int, count: int) -> list[tuple[int, float]]:
        """The drafter's `count` best tokens after a prefix with their log-probabilities, the likeliest first."""
        first = self.confidence(key)
        base = self._base(key)
        found = [(base, log(first))]
        missed = 1.0 - first
        if missed > 0.0:
            found += [(base + 1 + at, log(missed * share)) for at, share in enumerate(SHARES[: count - 1])]
        found.sort(key=lambda candidate: -candidate[1])
        return found

    def own_token(self, key: int) -> int:
        """The target's token after a prefix."""
        left = unit(mixed(key ^ 2))
        first = self.confidence(key)
        base = self._base(key)
        if left <= first:
            return base
        left -= first
        for at, share in enumerate(SHARES):
            if left <= (1.0 - first) * share:
                return base + 1 + at
            left -= (1.0 - first) * share
        return base + CANDIDATES

    def sequential(self, count: int) -> list[int]:
        """The first tokens of the text: what the target alone says."""
        key, found = self.start(), []
        for _ in range(count):
            found.append(self.own_token(key))
            key = self.extend(key, found[-1])
        return found

    @staticmethod
    def _base(key: int) -> int:
        return mixed(key ^ 3) % TOKENS * 16
