"""What has come of a verifier lately: tokens and rounds, to be compared with what its plan promised, and newcomers."""

from dataclasses import dataclass, field
from math import exp
from typing import Final

from shared.planning.estimates import Mean
from shared.planning.problem import Prompts

RATE_HORIZON_S: Final = 5.0  # what is older hardly counts
ENDS_HORIZON_S: Final = 30.0  # sessions that began together end together
EMPTY_PRIOR_S: Final = 1.0  # of nothing, before anything is known: one session that ends at once is no rate


@dataclass(slots=True)
class Rate:
    """So much a second, older ones fading. elapsed_s: how much is known of, fading likewise."""

    horizon_s: float
    elapsed_s: float = 0.0
    amount: float = 0.0

    def fade(self, gone_s: float) -> None:
        """Time passes."""
        keep = exp(-gone_s / self.horizon_s)
        self.amount *= keep
        self.elapsed_s = keep * self.elapsed_s + self.horizon_s * (1 - keep)

    @property
    def per_s(self) -> float:
        """Lately; 0.0 before there was anything."""
        return self.amount / self.elapsed_s if self.elapsed_s else 0.0


@dataclass(slots=True)
class Throughput:
    """Tokens and rounds of one verifier's sessions, and how many of them end."""

    tokens: Rate = field(default_factory=lambda: Rate(RATE_HORIZON_S))
    rounds: Rate = field(default_factory=lambda: Rate(RATE_HORIZON_S))
    ends: Rate = field(default_factory=lambda: Rate(ENDS_HORIZON_S, EMPTY_PRIOR_S))
    prompt: Mean = field(default_factory=lambda: Mean(0.0))  # tokens of those that ended
    at: float | None = None

    def observe(self, tokens: int) -> None:
        """A session was verified and emitted so many tokens."""
        self.tokens.amount += tokens
        self.rounds.amount += 1

    def ended(self, prompt: int) -> None:
        """A session with a prompt of so many tokens is over."""
        self.ends.amount += 1
        self.prompt.observe(prompt)

    def fade(self, now: float) -> None:
        """Time passes; called often."""
        for rate in (self.tokens, self.rounds, self.ends):
            rate.fade(0.0 if self.at is None else now - self.at)
        self.at = now

    def cycle_ms(self, sessions: int) -> float:
        """From one verification of a session to its next, on average over so many sessions."""
        return 1e3 * sessions / self.rounds.per_s if self.rounds.per_s else 0.0

    def prompts(self, per_token_ms: float) -> Prompts:
        """What there is to read of new sessions, if there stay as many as there are: one comes for each that ends."""
        return Prompts(self.ends.per_s / 1e3, self.prompt.value * per_token_ms)
