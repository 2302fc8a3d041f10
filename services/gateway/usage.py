"""Token counts of a request, as OpenAI's `usage` with what speculation did."""

from dataclasses import dataclass
from typing import Any

from services.gateway.session import Emitted


@dataclass(slots=True)
class Usage:
    """Sums over the events of one or more sessions. rounds: verifications that had a draft."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    rounds: int = 0
    round_tokens: int = 0  # emitted in those rounds, corrected or bonus token included

    def add(self, event: Emitted) -> None:
        """Count one event's speculation. Completion tokens are counted where the text may be cut."""
        if event.drafted:
            self.drafted_tokens += event.drafted
            self.accepted_tokens += event.accepted
            self.rounds += 1
            self.round_tokens += len(event.tokens)

    @property
    def tau(self) -> float | None:
        """Tokens emitted a verification with a draft; None when there was none."""
        return self.round_tokens / self.rounds if self.rounds else None

    def json(self) -> dict[str, Any]:
        """The `usage` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "speculative": {
                "drafted_tokens": self.drafted_tokens,
                "accepted_tokens": self.accepted_tokens,
                "rounds": self.rounds,
                "tau": self.tau,
            },
        }
