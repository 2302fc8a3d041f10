"""The session log: the truth about a session, from which any cache on any side is rebuilt."""

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
    """What the gateway writes once. The text depends on this and the target model, and on nothing else."""

    session: SessionId
    prompt: Tokens
    sampling: SamplingParams
    max_tokens: Annotated[int, Field(strict=True, ge=1, le=limits.MAX_POSITION)]
    stop_ids: Annotated[
        tuple[Token, ...], Field(max_length=limits.MAX_STOP_IDS)
    ]  # committed, then finish "stop"
    gateway: Address
    deadline_ms: Counter  # remaining when written
    logprobs: Annotated[
        int, Field(strict=True, ge=-1, le=limits.MAX_TOP_LOGPROBS)
    ] = -1  # likeliest per token; -1 = none at all
    device: Name = ""  # the device asked for, "" = any


@dataclass(frozen=True, slots=True)
class SessionHead:
    """The log without its tokens: what the scheduler may hold."""

    session: str
    prompt_len: int
    max_tokens: int
    gateway: str
    device_wanted: str
    deadline_ms: int  # remaining
    epoch: int
    verifier: str  # placement, written by the scheduler; "" = none yet
    device: str  # address; "" = none
    committed: int  # tokens committed after the prompt
    finish: Finish

    @property
    def length(self) -> int:
        """Committed length: prompt and committed tokens."""
        return self.prompt_len + self.committed


@dataclass(frozen=True, slots=True)
class SessionLog:
    """The whole log as one reader saw it."""

    spec: SessionSpec
    head: SessionHead
    committed: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...]  # one per committed token when spec.logprobs >= 0, else empty

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and committed tokens; len(ids) == head.length."""
        return self.spec.prompt + self.committed
