"""Trace spans of the services, as stored beside a result file."""

from dataclasses import dataclass
from math import isfinite
from typing import Final

ROLES: Final = ("draft_worker", "scheduler", "verifier", "gateway")
KINDS: Final = ("draft", "link", "wait", "verify", "idle")


@dataclass(frozen=True, slots=True)
class Span:
    """One activity of a service for a session in a round.

    start_us, end_us: microseconds on the service's clock; adding offset_us gives the run's clock.
    """

    role: str
    name: str
    session: str
    epoch: int
    round: int
    kind: str
    start_us: int
    end_us: int
    step: int
    offset_us: int

    def checked(self) -> "Span":
        """The span itself. Raises ValueError if it cannot be drawn."""
        whole = (self.epoch, self.round, self.start_us, self.end_us, self.step, self.offset_us)
        if self.role not in ROLES or self.kind not in KINDS:
            raise ValueError(f"unknown role {self.role!r} or kind {self.kind!r} of a span")
        if not all(isinstance(n, int | float) and isfinite(n) for n in whole) or self.end_us < self.start_us:
            raise ValueError("a span without valid times")
        if not isinstance(self.name, str) or not isinstance(self.session, str):
            raise ValueError("a span without a name or session")
        return self
