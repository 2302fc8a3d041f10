"""Recent throughput of one verifier (tokens, rounds, ended sessions), to be compared with its plan's prediction."""

from dataclasses import dataclass, field
from math import exp
from typing import Final

from shared.planning.estimates import Mean
from shared.planning.problem import Prompts

RATE_HORIZON_S: Final = 5.0  # time constant of the exponential fading
ENDS_HORIZON_S: Final = 30.0  # longer, because sessions that began together end together
EMPTY_PRIOR_S: Final = (
    1.0  # assumed idle time at the start, so that one early end is not taken for a high rate
)


@dataclass(slots=True)
class Rate:
    """An amount per second with exponential fading. elapsed_s: observed time, which fades at the same rate."""

    horizon_s: float
    elapsed_s: float = 0.0
    amount: float = 0.0

    def fade(self, gone_s: float) -> None:
        """Fade by gone_s seconds."""
        keep = exp(-gone_s / self.horizon_s)
        self.amount *= keep
        self.elapsed_s = keep * self.elapsed_s + self.horizon_s * (1 - keep)

    @property
    def per_s(self) -> float:
        """Amount per second; 0.0 before any time was observed."""
        return self.amount / self.elapsed_s if self.elapsed_s else 0.0


@dataclass(slots=True)
class Throughput:
    """Rates of tokens, rounds and ended sessions of one verifier."""

    tokens: Rate = field(default_factory=lambda: Rate(RATE_HORIZON_S))
    rounds: Rate = field(default_factory=lambda: Rate(RATE_HORIZON_S))
    ends: Rate = field(default_factory=lambda: Rate(ENDS_HORIZON_S, EMPTY_PRIOR_S))
    prompt: Mean = field(default_factory=lambda: Mean(0.0))  # prompt tokens of sessions that ended
    at: float | None = None

    def observe(self, tokens: int) -> None:
        """Count one verified round that emitted this many tokens."""
        self.tokens.amount += tokens
        self.rounds.amount += 1

    def ended(self, prompt: int) -> None:
        """Count an ended session. prompt: its prompt's tokens."""
        self.ends.amount += 1
        self.prompt.observe(prompt)

    def fade(self, now: float) -> None:
        """Fade all rates up to `now`."""
        for rate in (self.tokens, self.rounds, self.ends):
            rate.fade(0.0 if self.at is None else now - self.at)
        self.at = now

    def cycle_ms(self, sessions: int) -> float:
        """Average time from one verification of a session to its next, given the number of sessions."""
        return 1e3 * sessions / self.rounds.per_s if self.rounds.per_s else 0.0

    def prompts(self, per_token_ms: float) -> Prompts:
        """Prefill load of new sessions, assuming that one arrives for each that ends."""
        return Prompts(self.ends.per_s / 1e3, self.prompt.value * per_token_ms)
