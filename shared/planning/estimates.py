"""What the scheduler learns while serving: acceptance, devices' speed and delay, the verifier's cost law.

Every estimate starts from a prior and forgets: old observations fade by `decay` each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.planning.cost import Packed, Row
from shared.planning.least_squares import nonnegative


@dataclass(slots=True)
class Acceptance:
    """α of one session: accepted / (accepted + rounds that ended in a rejection)."""

    accepted: float = 2.8  # prior: 0.7, worth four observations
    rejected: float = 1.2
    decay: float = 0.98  # a round

    @property
    def alpha(self) -> float:
        """The chance that a drafted token is accepted."""
        return self.accepted / (self.accepted + self.rejected)

    def observe(self, drafted: int, accepted: int) -> None:
        """One verified round; a round without a draft says nothing."""
        if drafted == 0:
            return
        self.accepted = self.decay * self.accepted + accepted
        self.rejected = self.decay * self.rejected + (accepted < drafted)


@dataclass(slots=True)
class Mean:
    """An exponentially fading mean; the prior counts until the first observation."""

    value: float
    weight: float = 0.2  # of the newest observation
    seen: int = 0

    def observe(self, value: float) -> None:
        """Take one more."""
        self.seen += 1
        self.value += (value - self.value) * max(self.weight, 1 / self.seen)


@dataclass(slots=True)
class DeviceEstimate:
    """One device: seconds per drafted token, and of the links with its waiting (verdict there, draft back)."""

    draft_s: Mean = field(default_factory=lambda: Mean(0.01))
    link_s: Mean = field(default_factory=lambda: Mean(0.002))

    def observe(self, tokens: int, draft_s: float, turnaround_s: float) -> None:
        """One draft: its length, its computing time, and the time from verdict to draft as the scheduler saw it."""
        if tokens == 0:
            return
        self.draft_s.observe(draft_s / tokens)
        self.link_s.observe(max(0.0, turnaround_s - draft_s))

    def turnaround_s(self, k: int) -> float:
        """Expected time from a verdict to its draft of k tokens."""
        return self.link_s.value + k * self.draft_s.value


class VerifyCost:
    """Least squares of pass times on (1, Σ new tokens, Σ cached tokens), old passes fading."""

    LEAST: Final = 6  # passes before there is a law
    OFTEN: Final = 64  # fitted after each pass up to here
    SELDOM: Final = 8  # then after so many

    def __init__(self, decay: float = 0.995) -> None:
        self._decay = decay
        self._seen = 0
        self._gram: npt.NDArray[np.float64] = np.zeros((3, 3))
        self._moment: npt.NDArray[np.float64] = np.zeros(3)
        self._law: Packed | None = None

    def observe(self, rows: Sequence[Row], verify_ms: float) -> None:
        """One pass: what was in it and what it took."""
        x = np.array([1.0, sum(n for n, _ in rows), sum(c for _, c in rows)])
        self._gram = self._decay * self._gram + np.outer(x, x)
        self._moment = self._decay * self._moment + x * verify_ms
        self._seen += 1
        # Fitted now, while devices draft, and not when a batch is to be closed; an old law hardly moves.
        if self.LEAST <= self._seen < self.OFTEN or self._seen % self.SELDOM == 0:
            self._law = Packed(*nonnegative(self._gram, self._moment))

    def law(self) -> Packed | None:
        """The fitted law; None before there is enough to go by. No coefficient is negative."""
        return self._law
