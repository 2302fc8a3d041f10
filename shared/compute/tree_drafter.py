"""Protocol of a draft model that grows a tree of candidate tokens for each of several sessions.

A session's tree hangs below its last committed token, the root. To expand a node is to compute, from the tokens on its
path, the candidates that may follow it; they become its children. The caller chooses which nodes to expand, mostly the
likeliest ones (`DraftTree.frontier`), so that a tree grows best-first. When a verdict commits tokens, the node that
they lead to becomes the root, and everything that does not follow it is dropped; nothing that is still valid is
computed again. (FlowSpec, arXiv 2507.02620, keeps its draft trees alive in the same way.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from shared.protocol.limits import MAX_DRAFT
from shared.speculative.candidates import Candidate
from shared.speculative.params import SamplingParams

ROOT: Final = -1  # the last committed token, in place of a node's number
WIDTH: Final = 3  # children of a node
MAX_DEPTH: Final = MAX_DRAFT  # of a node below the root, whose children have depth 1
MAX_NODES: Final = 512  # alive nodes of a session, expanded or not


@dataclass(frozen=True, slots=True)
class GrowRequest:
    """Expand these nodes of a session's tree, likeliest first. nodes = (): only feed ids (prefill).

    ids: the whole prompt and all committed tokens, at least one. Where they differ from the ids before, the tree
    follows them as `advance` does. nodes: ROOT, or numbers out of earlier expansions; those that are dropped, expanded
    or at MAX_DEPTH already are passed over. width: children per node, at least 1.
    """

    session: str
    ids: Sequence[int]
    sampling: SamplingParams
    nodes: Sequence[int] = ()
    width: int = WIDTH


@dataclass(frozen=True, slots=True)
class Expansion:
    """The children of a node, likeliest first: their numbers are first, first + 1, …, in the order of candidates.

    node: ROOT if it was the root. log_prob of a candidate: that it is the target's token if its path is the target's.
    """

    node: int
    first: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Growth:
    """Answer to a request. draft_us: computing time of the whole call, in µs.

    expansions: in the order of the request. Nodes that are not among them found no room in the decode, the cache or the
    tree, and may be requested again. If none is expanded and nothing is missing, those wait for the next verdict.
    missing: committed tokens before the last that are still to be fed; no node is expanded before they are. error: why
    the request failed, "" = it did not. The session of a failed request is forgotten.
    """

    session: str
    base_len: int
    expansions: tuple[Expansion, ...]
    missing: int
    draft_us: int
    error: str = ""


class TreeDrafter(Protocol):
    """A draft model with a tree per session. Every method but `cost_s` is called on the compute thread.

    A node's number is never given to another node while its session is known, also when the tree is dropped whole. The
    tree of a session has at most MAX_NODES alive nodes, down to MAX_DEPTH.
    """

    vocabulary: str  # hash, see shared/protocol/vocabulary.py
    vocab: int  # real tokens
    capacity: int  # sessions at once

    def grow(self, requests: Sequence[GrowRequest]) -> list[Growth]:
        """Answer requests of different sessions by one decode: one level of all trees. In the order of the requests.

        A long prompt is fed in pieces, one a call. Raises ValueError for a request without ids or with a width below 1,
        and for two of one session.
        """
        ...

    def cost_s(self, requests: Sequence[GrowRequest]) -> float:
        """Modelled seconds of `grow` with these requests; 0.0 of a real model, and of one that takes no time."""
        ...

    def advance(self, session: str, ids: Sequence[int]) -> int:
        """Follow the committed tokens, `ids` in whole; frees what is dropped and computes nothing.

        Returns the number of the node that is now the root. ROOT: the new last token was none, so that the tree is
        empty. Unknown sessions are ignored, and have no tree either. Raises ValueError for no ids.
        """
        ...

    def forget(self, session: str) -> None:
        """Free everything held for a session. Unknown sessions are ignored."""
        ...

    def set_threads(self, threads: int) -> None:
        """Use this many threads from the next call on."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def check(requests: Sequence[GrowRequest]) -> None:
    """Raises ValueError for requests that no drafter can answer; see `TreeDrafter.grow`."""
    for request in requests:
        check_ids(request.session, request.ids)
        if request.width < 1:
            raise ValueError(f"{request.session}: nodes of {request.width} children")
    if len({request.session for request in requests}) < len(requests):
        raise ValueError("two requests of one session")


def check_ids(session: str, ids: Sequence[int]) -> None:
    """Raises ValueError for a session without tokens."""
    if not ids:
        raise ValueError(f"{session}: a session without tokens")
