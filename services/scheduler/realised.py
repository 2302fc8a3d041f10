"""What came of a plan: tokens and rounds lately, to be compared with what it promised."""

from dataclasses import dataclass
from math import exp
from typing import Final

HORIZON_S: Final = 5.0  # what is older hardly counts


@dataclass(slots=True)
class Realised:
    """Tokens and rounds a second of one verifier's sessions, older ones fading."""

    tokens: float = 0.0
    rounds: float = 0.0
    elapsed_s: float = 0.0
    last: float | None = None

    def observe(self, tokens: int, now: float) -> None:
        """A session was verified and emitted so many tokens."""
        self.fade(now)
        self.tokens += tokens
        self.rounds += 1

    def fade(self, now: float) -> None:
        """Time passes."""
        if self.last is None:
            self.last = now
        gone = now - self.last
        keep = exp(-gone / HORIZON_S)
        self.tokens, self.rounds = keep * self.tokens, keep * self.rounds
        self.elapsed_s = keep * self.elapsed_s + HORIZON_S * (1 - keep)
        self.last = now

    def tokens_per_s(self) -> float:
        """Lately; 0.0 before there was anything."""
        return self.tokens / self.elapsed_s if self.elapsed_s else 0.0

    def cycle_ms(self, sessions: int) -> float:
        """From one verification of a session to its next, on average over so many sessions."""
        return 1e3 * sessions * self.elapsed_s / self.rounds if self.rounds > 0 else 0.0
