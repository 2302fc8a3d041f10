"""The protocol of a target model with a KV cache of many sessions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.speculative.params import SamplingParams

# One choice's log-probabilities: its own, ids of the likeliest, theirs. The same shape as the protocol's; not
# imported from there, because the verifier's benchmark runs where the messages' libraries are not installed.
TokenLogprobs = tuple[float, tuple[int, ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One row of a packed forward pass.

    Feed `tokens` at positions start .. start + len(tokens) - 1, where start is the session's cached length.
    The first `committed` of them are committed tokens (a chain); the rest is a draft whose `parents` index
    into itself (-1 = after the last committed one; empty = a chain). With `choose`, the target's own token
    is wanted after the last committed token and after every drafted one: 1 + drafts choices. Positions that
    the noise is keyed by: start + committed for the first choice, plus depth below it.
    """

    session: str
    start: int
    tokens: Sequence[int]
    committed: int
    choose: bool
    sampling: SamplingParams
    logprobs: int = -1  # likeliest per choice, -1 = none at all
    parents: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Choices:
    """The target's own tokens for one row: [1 + drafts] (empty without `choose`), logprobs likewise or empty."""

    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()


class TargetModel(Protocol):
    """A target model and its KV pool. Every method but `cost_s` is called on the compute thread."""

    vocabulary: str  # hash
    vocab: int  # real tokens
    max_context: int  # positions of one session
    pool_tokens: int  # KV tokens of all sessions together

    def cached(self, session: str) -> int:
        """Committed tokens whose KV is held; 0 for an unknown session."""
        ...

    def admit(self, session: str, prompt: Sequence[int], protect: Sequence[str], length: int) -> bool:
        """Make room for a session to hold `length` tokens, KV reserved before the forward pass.

        A session seen for the first time may find full pages of its prompt's prefix shared (cached() tells).
        Sessions in `protect` (this batch) and the oldest session are never evicted, the youngest goes first.
        False: no pages, the row has to wait.
        """
        ...

    def forward(self, rows: Sequence[TargetRow]) -> list[Choices]:
        """One forward pass over all rows. Rows are of different sessions and were admitted."""
        ...

    def keep(self, session: str, length: int, path: Sequence[int] = ()) -> None:
        """Roll back to the first `length` tokens; path: accepted nodes of a draft tree that move behind them.

        For a chain, path is empty and `length` counts the accepted drafts.
        """
        ...

    def forget(self, session: str) -> None:
        """Free all pages of a session. Unknown sessions are fine."""
        ...

    def cost_s(self, rows: Sequence[TargetRow]) -> float:
        """Modelled seconds of a forward pass over rows; 0.0 for a real model."""
        ...

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next pass on."""
        ...

    def pages(self) -> tuple[int, int]:
        """KV pages (used, all)."""
        ...
