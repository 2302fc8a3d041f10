"""Protocol of a draft model that serves several sessions at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.speculative.params import SamplingParams


class NoCapacity(RuntimeError):
    """The drafter's KV cache cannot hold another session, or a session this long."""


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """Draft k tokens after `ids`, the whole prompt and all committed tokens. k = 0: only feed ids (prefill).

    stop_below: draft none after a token whose survival is below this byte; 0 = all k. siblings: a tree may have so many
    more nodes.
    """

    session: str
    ids: Sequence[int]
    k: int
    sampling: SamplingParams
    stop_below: int = 0
    siblings: int = 0


@dataclass(frozen=True, slots=True)
class DraftResult:
    """Result of a request: its k tokens (fewer at the context's end, or where it stopped), and computing time in µs.

    survival: one byte per token (shared/speculative/survival.py). parents: of a tree, as in Draft; () = a chain.
    error: why it failed, "" = it did not. The session of a failed request is forgotten.
    """

    session: str
    base_len: int
    tokens: tuple[int, ...]
    survival: bytes
    draft_us: int
    error: str = ""
    parents: tuple[int, ...] = ()


class Drafter(Protocol):
    """A draft model with a KV cache per session. Every method but `costs_s` is called on the compute thread.

    A session's cache keeps the longest common prefix with the next request's ids, and the rest is rolled back. So
    rejected drafts need no message of their own.
    """

    vocabulary: str  # hash, see shared/protocol/vocabulary.py
    vocab: int  # real tokens
    capacity: int  # sessions at once

    def start(self, request: DraftRequest) -> None:
        """Start a request, replacing one of the same session. Raises NoCapacity."""
        ...

    def step(self) -> list[DraftResult]:
        """Run one decode over all requests under way; returns the finished ones. [] also without requests."""
        ...

    def busy(self) -> bool:
        """Whether any request is under way."""
        ...

    def costs_s(self) -> Sequence[float]:
        """Modelled seconds of each of the next steps, as far as none but the last finishes a request.

        () of a real model, and of one that takes no time.
        """
        ...

    def forget(self, session: str) -> None:
        """Free everything held for a session. Unknown sessions are ignored."""
        ...

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next step on."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
