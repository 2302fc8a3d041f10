"""Bookkeeping of a KV cache that many sessions share. Pure: no model, no I/O.

`KvBook` knows which tokens each sequence holds and how many cells are reserved for it, so that a decode
never lacks a cell. Sessions that begin alike share what is computed already, also with sessions that have left: the
next turn of a chat begins with the last one. `next_batch` decides what the next decode feeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.compute.drafter import DraftRequest, NoCapacity
from shared.speculative.survival import Survival

SHORT: Final = 16  # a draft with at most this many tokens to feed is fed whole, before any prefill
PREFILL_ALONE: Final = 64  # prefill tokens in a decode without drafts; bounds a new draft's wait
MIN_SHARED: Final = 8  # minimum common prefix, in tokens, that is worth sharing
# Prefill tokens in a decode with drafts; they cost about as much as the drafts themselves.
PREFILL_WITH_DRAFTS: Final = 16


@dataclass(slots=True)
class Track:
    """One session's sequence: the tokens whose KV it holds, at positions 0 .. len(held) - 1."""

    sequence: int
    held: list[int] = field(default_factory=list)
    reserved: int = 0  # cells reserved for it, >= len(held)


@dataclass(frozen=True, slots=True)
class Cut:
    """A cache operation: the sequence keeps its first `keep` positions."""

    sequence: int
    keep: int


@dataclass(frozen=True, slots=True)
class Copy:
    """A cache operation: copy the first `length` positions of a sequence to another, empty one."""

    sequence: int
    to: int
    length: int


Change = Cut | Copy


@dataclass(slots=True)
class Work:
    """A request under way. k may be smaller than requested: cache or context are too small, or it has stopped."""

    request: DraftRequest
    track: Track
    k: int
    drafted: list[int] = field(default_factory=list)
    spent_us: int = 0
    survival: Survival = field(init=False)

    def __post_init__(self) -> None:
        self.survival = Survival(self.request.stop_below)

    def add(self, token: int, probability: float) -> None:
        """Add a drafted token, which the model drew with this probability."""
        self.drafted.append(token)
        if not self.survival.add(probability):
            self.k = len(self.drafted)

    @property
    def missing(self) -> int:
        """Tokens to feed before the next one can be drafted (or before it has caught up)."""
        return len(self.request.ids) + len(self.drafted) - len(self.track.held)

    @property
    def done(self) -> bool:
        """Whether all tokens are fed and all k drafted."""
        return len(self.drafted) >= self.k and (self.k > 0 or self.missing == 0)

    def next_tokens(self, limit: int) -> list[int]:
        """The next tokens to feed, at most `limit`."""
        start, ids = len(self.track.held), self.request.ids
        if start >= len(ids):
            return self.drafted[start - len(ids) :][:limit]
        return list(ids[start : start + limit])


@dataclass(frozen=True, slots=True)
class FedPiece:
    """One session's part of a decode, at least one token. choose: draft a token from the last one's logits."""

    work: Work
    tokens: list[int]
    start: int  # position of the first
    choose: bool


class KvBook:
    """cells: KV tokens of all sessions together; context: positions of one session; sessions: at once.

    kept: closed sessions whose tokens stay while no other session needs the cells; the oldest is dropped first.
    """

    def __init__(self, cells: int, sessions: int, context: int, kept: int = 0) -> None:
        self.cells = cells
        self.context = min(context, cells)
        self.tracks: dict[str, Track] = {}
        self.kept: list[Track] = []  # oldest first
        self._sessions, self._max_kept = sessions, kept
        self._free = list(range(sessions + kept - 1, -1, -1))

    @property
    def reserved(self) -> int:
        """Cells used by or reserved for open sessions."""
        return sum(track.reserved for track in self.tracks.values())

    def admit(self, request: DraftRequest) -> tuple[Work, list[Change]]:
        """The work for a request, and the cache operations that the caller has to do first, in this order.

        The last id is fed again when a draft is wanted and everything is cached: the draft starts from its
        logits. Raises NoCapacity, and then nothing has changed, when the ids do not fit. A draft that does
        not fit whole is cut: its k-th token is never fed, so k tokens need len(ids) + k - 1 cells.
        """
        need = len(request.ids)
        if need == 0:
            raise ValueError(f"{request.session}: a request without tokens")
        track = self.tracks.get(request.session)
        others = self.reserved - (track.reserved if track else 0)
        if need > self.context:
            raise NoCapacity(f"{need} tokens; a session may have {self.context}")
        if others + need > self.cells:
            raise NoCapacity(
                f"{need} KV tokens wanted, {max(self.cells - others, 0)} of {self.cells} are free"
            )
        changes: list[Change] = []
        if track is None:
            track = self._open(request, changes)
        keep = common_prefix(track.held, request.ids)
        if request.k > 0:
            keep = min(keep, need - 1)
        k = min(request.k, min(self.context, self.cells - others) - need + 1)
        track.reserved = need + max(k - 1, 0)
        del track.held[keep:]
        changes.append(Cut(track.sequence, keep))
        while self.reserved + sum(len(left.held) for left in self.kept) > self.cells:
            changes.append(self._drop_oldest())
        return Work(request, track, k), changes

    def close(self, session: str, keep: bool = True) -> list[Change]:
        """Close a session; returns the cache operations. keep: its tokens may stay for reuse."""
        track = self.tracks.pop(session, None)
        if track is None:
            return []
        if keep and track.held:
            self.kept.append(track)
            return [self._drop_oldest()] if len(self.kept) > self._max_kept else []
        self._free.append(track.sequence)
        return [Cut(track.sequence, 0)]

    def _open(self, request: DraftRequest, changes: list[Change]) -> Track:
        """Open a session's track: a closed session's track taken over, a copy of a common prefix, or an empty one."""
        if len(self.tracks) >= self._sessions:
            raise NoCapacity(f"{len(self.tracks)} sessions are open")
        lengths = [(common_prefix(track.held, request.ids), track) for track in self.kept]
        lengths += [(common_prefix(track.held, request.ids), track) for track in self.tracks.values()]
        length, source = max(lengths, key=lambda pair: pair[0], default=(0, None))
        left = source is not None and any(source is track for track in self.kept)
        if source is None or length < MIN_SHARED:
            track = Track(self._free.pop())
        elif left and 2 * length >= len(source.held):  # most likely the same conversation
            self.kept = [other for other in self.kept if other is not source]
            track = source
        else:
            track = Track(self._free.pop(), source.held[:length])
            changes.append(Copy(source.sequence, track.sequence, length))
        self.tracks[request.session] = track
        return track

    def _drop_oldest(self) -> Cut:
        track = self.kept.pop(0)
        self._free.append(track.sequence)
        return Cut(track.sequence, 0)


def next_batch(works: Sequence[Work]) -> list[FedPiece]:
    """The pieces of the next decode. works: oldest first.

    Every draft under way takes part, since a decode of several sequences costs far less than theirs one by one
    (docs/benchmarks.md); prefill takes a bounded share, oldest first, so that drafts go on beside it. A request that
    asked for no tokens and lacks none is done before it began: no piece is empty.
    """
    feeding = [work for work in works if not work.done]
    drafts = [work for work in feeding if work.k > 0 and work.missing <= SHORT]
    pieces = [_piece(work, SHORT) for work in drafts]
    budget = PREFILL_WITH_DRAFTS if drafts else PREFILL_ALONE
    for work in feeding:
        if budget > 0 and (work.k == 0 or work.missing > SHORT):
            pieces.append(_piece(work, budget))
            budget -= len(pieces[-1].tokens)
    return pieces


def common_prefix(held: Sequence[int], ids: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    pairs = zip(held, ids, strict=False)
    return next((i for i, (mine, theirs) in enumerate(pairs) if mine != theirs), min(len(held), len(ids)))


def _piece(work: Work, limit: int) -> FedPiece:
    tokens = work.next_tokens(limit)
    return FedPiece(work, tokens, len(work.track.held), choose=work.k > 0 and len(tokens) == work.missing)
