"""What a device's survival bytes are worth: how often tokens that it was so sure of were accepted.

A draft model may be too sure of itself, or not sure enough. Counting corrects that: tokens are put in bins by their
byte, and a bin's share of accepted ones, made monotone over the bins, is what its bytes stand for. Where little was
seen, the device's own word counts.
"""

from collections.abc import Sequence
from typing import Final

from shared.speculative.survival import FULL

BIN: Final = 16  # bytes of one bin
BINS: Final = (FULL + 1) // BIN
PRIOR: Final = 8.0  # tokens that a device's own word counts for, in each bin
FADE_AT: Final = 2048.0  # a bin that has seen so many counts for half as much from then on
REFIT_EVERY: Final = 16  # drafts
OWN_WORD: Final = tuple((BIN * n + (BIN - 1) / 2) / FULL for n in range(BINS))


class Calibration:
    """Counts of one device's drafts at one kind of sampling.

    curve: the probability that a token survives, by its byte // BIN. [BINS], never falling.
    """

    def __init__(self) -> None:
        self.curve: tuple[float, ...] = OWN_WORD
        self._seen = [0.0] * BINS
        self._survived = [0.0] * BINS
        self._drafts = 0

    def observe(self, survival: Sequence[int], accepted: int) -> None:
        """Add a verified draft: its tokens' bytes, and how many of them were accepted."""
        for position, byte in enumerate(survival):
            at = byte // BIN
            self._seen[at] += 1.0
            self._survived[at] += position < accepted
            if self._seen[at] >= FADE_AT:
                self._seen[at], self._survived[at] = self._seen[at] / 2, self._survived[at] / 2
        self._drafts += 1
        if self._drafts % REFIT_EVERY == 0:
            self.curve = self._fitted()

    def excess(self) -> tuple[float, float]:
        """Tokens counted, and by how many more the device expected to be accepted than were."""
        expected = sum(seen * word for seen, word in zip(self._seen, OWN_WORD, strict=True))
        return sum(self._seen), expected - sum(self._survived)

    def _fitted(self) -> tuple[float, ...]:
        weights = [seen + PRIOR for seen in self._seen]
        shares = [
            (survived + PRIOR * word) / weight
            for survived, word, weight in zip(self._survived, OWN_WORD, weights, strict=True)
        ]
        return monotone(shares, weights)


def monotone(values: Sequence[float], weights: Sequence[float]) -> tuple[float, ...]:
    """The never falling sequence that is nearest in weighted squares (pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, length; means rise
    for value, weight in zip(values, weights, strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] >= pool[0]:
            mean, heavy, length = pools.pop()
            total = heavy + pool[1]
            pool = ((heavy * mean + pool[1] * pool[0]) / total, total, length + pool[2])
        pools.append(pool)
    return tuple(mean for mean, _, length in pools for _ in range(length))
