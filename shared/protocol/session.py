"""The session log: the authoritative state of a session, from which every process can rebuild its caches."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from shared.protocol import limits
from shared.protocol.messages import (
    Address,
    Counter,
    Finish,
    Name,
    SessionId,
    Token,
    TokenLogprobs,
    Tokens,
)
from shared.speculative.params import SamplingParams


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """The part of a log that the gateway writes once. The text depends only on this and on the target model."""

    session: SessionId
    prompt: Tokens
    sampling: SamplingParams
    max_tokens: Annotated[int, Field(strict=True, ge=1, le=limits.MAX_POSITION)]
    stop_ids: Annotated[
        tuple[Token, ...], Field(max_length=limits.MAX_STOP_IDS)
    ]  # committed, then finish "stop"
    gateway: Address
    deadline_ms: Counter  # remaining time when written
    logprobs: Annotated[
        int, Field(strict=True, ge=-1, le=limits.MAX_TOP_LOGPROBS)
    ] = -1  # number of most likely tokens to report per token; -1 = no log-probabilities
    device: Name = ""  # the only device that may draft; "" = any


@dataclass(frozen=True, slots=True)
class SessionHead:
    """The log without its tokens, which the scheduler may not hold."""

    session: str
    prompt_len: int
    max_tokens: int
    gateway: str
    device_wanted: str
    deadline_ms: int  # remaining time
    epoch: int
    verifier: str  # placement, written by the scheduler; "" = none yet
    device: str  # address; "" = none
    committed: int  # tokens committed after the prompt
    finish: Finish

    @property
    def length(self) -> int:
        """Committed length: number of prompt and committed tokens."""
        return self.prompt_len + self.committed


@dataclass(frozen=True, slots=True)
class SessionLog:
    """A consistent copy of the whole log."""

    spec: SessionSpec
    head: SessionHead
    committed: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...]  # one per committed token when spec.logprobs >= 0, else empty

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and committed tokens; len(ids) == head.length."""
        return self.spec.prompt + self.committed
