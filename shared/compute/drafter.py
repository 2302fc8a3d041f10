"""The protocol of a draft model that serves several sessions at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.speculative.params import SamplingParams


class NoCapacity(RuntimeError):
    """The drafter's KV cache cannot hold another session, or a session this long."""


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """Draft k tokens after `ids` (prompt and committed, all of it). k = 0: only catch up with ids (prefill)."""

    session: str
    ids: Sequence[int]
    k: int
    sampling: SamplingParams


@dataclass(frozen=True, slots=True)
class DraftResult:
    """What became of a request: its k tokens (fewer at the context's end), microseconds of computing.

    error: why it could not be finished, "" = it was; the session is forgotten then.
    """

    session: str
    base_len: int
    tokens: tuple[int, ...]
    draft_us: int
    error: str = ""


class Drafter(Protocol):
    """A draft model with a KV cache per session. Every method but `cost_s` is called on the compute thread.

    The cache of a session is found again by the longest common prefix of what it holds and the ids of the
    next request: the rest is rolled back. So a rejected draft needs no message of its own.
    """

    vocabulary: str  # hash, see shared/protocol/vocabulary.py
    vocab: int  # real tokens
    capacity: int  # sessions at once

    def start(self, request: DraftRequest) -> None:
        """Take a request, replacing one of the same session that is under way. Raises NoCapacity."""
        ...

    def step(self) -> list[DraftResult]:
        """One decode over the requests under way; those that it finished. [] also when there are none."""
        ...

    def busy(self) -> bool:
        """Whether a step has anything to do."""
        ...

    def cost_s(self) -> float:
        """Modelled seconds of the next step; 0.0 for a real model."""
        ...

    def forget(self, session: str) -> None:
        """Free all that is held for a session. Unknown sessions are fine."""
        ...

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next step on."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
