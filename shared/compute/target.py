"""Protocol of a target model with a KV cache for many sessions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.speculative.params import SamplingParams

# Log-probabilities of one choice: (its own, ids of the most likely tokens, their log-probabilities). The protocol's
# type is the same; it is not imported, because the verifier's benchmark runs without the libraries of shared/protocol.
TokenLogprobs = tuple[float, tuple[int, ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One row of a packed forward pass.

    `tokens` are fed from position start on, where start is the session's cached length. The first `committed` of them
    are committed tokens (a chain). The rest is a draft, whose `parents` index into the draft (-1 = the last committed
    token; () = a chain). With `choose`, the row returns the target's token after the last committed token, if that is
    fed, and after each drafted one: 1 + drafts choices. The noise's position is start + committed for the first choice,
    and that plus the depth in the draft for the others.

    A *piece* of a tree feeds no committed token: `open` has the parents of the tree's nodes that are cached behind
    `start`, or on their way into the cache, in their order there. The row's nodes follow them, so that both kinds of
    parents count through open and new nodes. It returns one choice per new node.
    """

    session: str
    start: int
    tokens: Sequence[int]
    committed: int
    choose: bool
    sampling: SamplingParams
    logprobs: int = -1  # number of most likely tokens per choice; -1 = no logprobs
    parents: Sequence[int] = ()
    open: Sequence[int] = ()

    @property
    def first(self) -> int:
        """Place of its first token among the session's slots."""
        return self.start + len(self.open)

    @property
    def nodes(self) -> Sequence[int]:
        """Parents of all nodes of the tree, open and new."""
        return (*self.open, *self.parents)

    @property
    def choices(self) -> int:
        """How many tokens it chooses, with `choose`."""
        return len(self.tokens) - max(self.committed - 1, 0)


@dataclass(frozen=True, slots=True)
class Choices:
    """The target's own tokens for one row: see TargetRow; empty without `choose`. logprobs: one per token, or empty."""

    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()


class TargetModel(Protocol):
    """A target model and its KV pool. All methods except `cost_s` are called on the compute thread."""

    vocabulary: str  # hash
    vocab: int  # real tokens
    max_context: int  # positions of one session
    pool_tokens: int  # KV tokens of all sessions together

    def cached(self, session: str) -> int:
        """Committed tokens whose KV is held; 0 for an unknown session."""
        ...

    def admit(self, session: str, prompt: Sequence[int], protect: Sequence[str], length: int) -> bool:
        """Reserve KV for `length` tokens of a session before the forward pass.

        A new session may share full pages of its prompt's prefix; `cached` then returns their tokens.
        Sessions in `protect` (this batch) and the oldest one are never evicted; the youngest is evicted first.
        Returns False when there are not enough pages; the row has to wait.
        """
        ...

    def forward(self, rows: Sequence[TargetRow]) -> list[Choices]:
        """Run one forward pass over admitted rows of different sessions."""
        ...

    def keep(self, session: str, length: int, path: Sequence[int] = ()) -> None:
        """Roll back to the first `length` tokens. path: accepted nodes of a draft tree, moved behind these tokens.

        For a chain, path is empty and `length` counts the accepted drafts.
        """
        ...

    def forget(self, session: str) -> None:
        """Free all pages of a session. Unknown sessions are ignored."""
        ...

    def cost_s(self, rows: Sequence[TargetRow]) -> float:
        """Modelled seconds of a forward pass over rows; 0.0 for a real model."""
        ...

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next pass on."""
        ...

    def pages(self) -> tuple[int, int]:
        """KV pages (used, total)."""
        ...
