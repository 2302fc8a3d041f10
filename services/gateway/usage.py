"""Token counts and times of a request: OpenAI's `usage`, the counts of speculation, when tokens arrived."""

import asyncio
from dataclasses import dataclass
from typing import Any

from services.gateway.session import Emitted


@dataclass(slots=True)
class Usage:
    """Sums over the events of one or more sessions. rounds: verifications that had a device's draft.

    fused_drafted_tokens, fused_accepted_tokens: of drafts that the core made itself; the others do not count them.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    rounds: int = 0
    fused_drafted_tokens: int = 0
    fused_accepted_tokens: int = 0
    round_tokens: int = 0  # tokens emitted in those rounds, including the corrected or bonus token

    def add(self, event: Emitted) -> None:
        """Count one event's speculation. The responder counts completion tokens, since it may cut the text."""
        self.fused_drafted_tokens += event.fused_drafted
        self.fused_accepted_tokens += event.fused_accepted
        if event.drafted:
            self.drafted_tokens += event.drafted
            self.accepted_tokens += event.accepted
            self.rounds += 1
            self.round_tokens += len(event.tokens)

    @property
    def tau(self) -> float | None:
        """Mean tokens emitted per verification with a draft; None when there was none."""
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
                "fused_drafted_tokens": self.fused_drafted_tokens,
                "fused_accepted_tokens": self.fused_accepted_tokens,
            },
        }


@dataclass(slots=True)
class RequestTimer:
    """Arrival times of a request's tokens, in loop-clock seconds."""

    began_at: float
    first_at: float | None = None
    last_at: float = 0.0
    count: int = 0

    def tokens(self, count: int) -> None:
        """Record that `count` tokens have arrived now."""
        if not count:
            return
        self.last_at = asyncio.get_running_loop().time()
        self.first_at = self.last_at if self.first_at is None else self.first_at
        self.count += count
