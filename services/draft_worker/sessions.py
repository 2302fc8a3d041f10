"""The sessions of a device: a pure state machine, messages in, effects out.

Committed tokens are applied by absolute position, so any message may be repeated, late or lost: known tokens are
skipped, new ones are appended, and for a gap the device asks the scheduler for another Open with the session's log.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.draft_worker.grown_trees import Grow, Nodes, StopGrowing
from shared.compute.drafter import DraftRequest, DraftResult
from shared.protocol import wire
from shared.protocol.messages import (
    Close,
    Dismiss,
    Draft,
    Message,
    Open,
    Resync,
    ResyncReason,
    Share,
    Tune,
    Verdict,
)
from shared.protocol.session import SessionSpec
from shared.speculative.params import SamplingParams

REMEMBERED: Final = 256  # closed sessions kept by id, to tell their late verdicts from unknown ones
# Committed tokens without a draft request are fed once this many have come, or with the next draft.
CATCH_UP: Final = 64


@dataclass(frozen=True, slots=True)
class Start:
    """Give a drafter a request. since: arrival time of the message that caused it (s). trees: the drafter of trees."""

    request: DraftRequest
    since: float
    trees: bool = False


@dataclass(frozen=True, slots=True)
class Forget:
    """Free the drafters' caches of a session."""

    session: str


@dataclass(frozen=True, slots=True)
class SendToScheduler:
    """Send a message to the scheduler."""

    message: Draft | Resync


@dataclass(frozen=True, slots=True)
class CountRefusal:
    """Count a message that was refused or ignored."""

    reason: str


@dataclass(frozen=True, slots=True)
class Dismissed:
    """The core has dismissed this device: its worker must stop."""

    why: str


@dataclass(frozen=True, slots=True)
class SetThreads:
    """Compute with this many threads."""

    threads: int


@dataclass(frozen=True, slots=True)
class KeepShare:
    """Carry at most this through the cell, in bit/s, both directions together."""

    bits_s: int


Effect = (
    Start | Forget | Grow | StopGrowing | SendToScheduler | CountRefusal | SetThreads | KeepShare | Dismissed
)


@dataclass(slots=True)
class DraftSession:
    """A session on this device. ids: prompt and committed tokens."""

    id: str
    epoch: int
    last_heard_at: float  # time of the last message about it
    sampling: SamplingParams
    ids: list[int]
    round: int = 0
    lost: bool = False  # it has a gap; all messages but another Open are ignored
    requested_k: int = -1  # draft length of the current request; -1 = none
    requested_length: int = 0  # committed length at the last request
    drafted_length: int = 0  # committed length at the last request with k > 0
    ready: bool = False  # the scheduler was told that we have caught up
    tree: int = 0  # committed length from which the tree hangs that we grow; 0 = none
    trees: bool = False  # all its drafts are made by the drafter of trees


class DraftSessions:
    """All sessions of one device incarnation.

    address: "name:generation". vocab: real tokens of the draft model. trees: whether the device drafts trees.
    """

    def __init__(self, address: str, vocab: int, capacity: int, trees: bool = False) -> None:
        self.address = address
        self._trees = trees
        self._vocab = vocab
        self._capacity = capacity
        self._sessions: dict[str, DraftSession] = {}
        self._closed: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def tokens(self) -> int:
        """Prompt and committed tokens of all sessions together."""
        return sum(len(session.ids) for session in self._sessions.values())

    def receive(self, message: Message, now: float) -> list[Effect]:
        """Handle a message from the inbox."""
        match message:
            case Open():
                return self._on_open(message, now)
            case Verdict():
                return self._on_verdict(message, now)
            case Close():
                return self._drop(message.session)
            case Tune() | Share() | Dismiss():
                return [_order(message)]
        return [CountRefusal("kind")]

    def query_silent(self, before: float, now: float) -> list[Effect]:
        """Query sessions without a message since `before`: their end or move may have been lost."""
        effects: list[Effect] = []
        for session in self._sessions.values():
            if session.last_heard_at < before:
                session.last_heard_at = now
                effects.append(self._resync(session, "gap" if session.lost else "silent"))
        return effects

    def finished(self, result: DraftResult, wait_us: int) -> list[Effect]:
        """Handle a finished request. wait_us: from the arrival of its cause to the start of computing."""
        session = self._sessions.get(result.session)
        if session is None:
            return []
        if result.error:
            return self.refused(result.session)
        if session.lost or result.base_len != len(session.ids):
            return []  # a newer request has replaced it
        requested_k, session.requested_k = session.requested_k, -1
        effects: list[Effect] = []
        if not session.ready:
            session.ready = True
            effects.append(self._resync(session, "ready"))
        if requested_k > 0:  # also without tokens: the scheduler waits
            effects.append(SendToScheduler(self._draft(session, result, wait_us)))
        return effects

    def refused(self, name: str) -> list[Effect]:
        """Give a session back that the drafter cannot hold."""
        session = self._sessions.get(name)
        return [self._resync(session, "no_capacity"), *self._drop(name)] if session else []

    def grown(self, nodes: Nodes) -> list[Effect]:
        """Nodes that were found: send them, unless their tree is over."""
        session = self._sessions.get(nodes.session)
        if session is None or session.tree != nodes.hangs_from:
            return []
        draft = Draft(
            session.id,
            session.epoch,
            session.round,
            nodes.hangs_from,
            self.address,
            nodes.tokens,
            nodes.survival,
            nodes.parents,
            nodes.draft_us,
            first_node=nodes.first_node,
        )
        return [SendToScheduler(draft)]

    def drop_all(self) -> list[Effect]:
        """Free all sessions after the broker was lost."""
        self._closed.clear()
        return [effect for name in list(self._sessions) for effect in self._drop(name)]

    def release(self) -> list[Effect]:
        """Free all sessions because the device stops, and tell the scheduler, which moves them."""
        gone: list[Effect] = [self._resync(session, "gone") for session in self._sessions.values()]
        return gone + self.drop_all()

    def is_current(self, message: Draft | Resync) -> bool:
        """Whether a message that could not be sent at once is still worth sending."""
        session = self._sessions.get(message.session)
        if isinstance(message, Resync) and message.reason != "ready":
            return True
        if isinstance(message, Draft) and message.first_node >= 0:
            return session is not None and message.base_len == session.tree
        return session is not None and message.base_len == len(session.ids)

    def _on_open(self, message: Open, now: float) -> list[Effect]:
        session = self._sessions.get(message.session)
        if session is not None and message.epoch < session.epoch:
            return [CountRefusal("stale")]
        if session is None and len(self._sessions) >= self._capacity:
            return self._decline(message)
        spec = _spec(message)
        if spec is None or spec.sampling.vocab > self._vocab or not self._in_vocabulary(message.committed):
            return [CountRefusal("log"), *self._decline(message)]
        ids = [*spec.prompt, *message.committed]
        if not spec.prompt or not self._in_vocabulary(spec.prompt):
            return [CountRefusal("token"), *self._decline(message)]
        if session is None:
            session = DraftSession(message.session, message.epoch, now, spec.sampling, ids)
            self._closed.pop(session.id, None)
            self._sessions[session.id] = session
        elif session.ids != ids:
            session.ids, session.requested_k, session.drafted_length = ids, -1, 0
        session.epoch, session.last_heard_at, session.ready, session.lost = message.epoch, now, False, False
        session.trees = message.trees and self._trees
        return self._end_tree(
            session, [] if session.requested_k >= 0 else self._request_draft(session, 0, now)
        )

    def _decline(self, message: Open) -> list[Effect]:
        declined = Resync(message.session, message.epoch, self.address, message.base_len, "no_capacity")
        return [SendToScheduler(declined), *self._drop(message.session)]

    def _on_verdict(self, verdict: Verdict, now: float) -> list[Effect]:
        session = self._sessions.get(verdict.session)
        if session is None:
            return self._on_unknown(verdict)
        if not session.lost:
            session.last_heard_at = now
        if verdict.status != "ok" or verdict.length != verdict.base_len + len(verdict.tokens):
            return [CountRefusal("verdict")]
        if verdict.finish:
            return self._drop(session.id)
        if not self._in_vocabulary(verdict.tokens):
            return [CountRefusal("token"), *self.refused(session.id)]
        return [] if session.lost else self._apply(session, verdict, now)

    def _apply(self, session: DraftSession, verdict: Verdict, now: float) -> list[Effect]:
        """Append a verdict's new tokens and draft as many tokens as it requests."""
        known = len(session.ids)
        session.epoch = max(session.epoch, verdict.epoch)
        if verdict.base_len > known:
            return [CountRefusal("gap"), *self._mark_lost(session)]
        overlap = min(known, verdict.length) - verdict.base_len
        if list(verdict.tokens[:overlap]) != session.ids[verdict.base_len : verdict.base_len + overlap]:
            return [CountRefusal("conflict"), *self._mark_lost(session)]
        if verdict.length < known or (verdict.length == known and verdict.next_k == 0):
            return [CountRefusal("late")]
        if verdict.length == known and session.drafted_length == known:
            return [CountRefusal("repeated")]
        session.ids.extend(verdict.tokens[overlap:])
        session.round = verdict.round
        if verdict.tree and self._trees:
            session.tree, session.requested_k = verdict.tree, -1
            return [Grow(session.id, tuple(session.ids), session.sampling, verdict.tree)]
        return self._end_tree(session, self._follow(session, verdict, now))

    def _end_tree(self, session: DraftSession, effects: list[Effect]) -> list[Effect]:
        """Stop a session's tree, unless its drafter gets a request: it stops then, and keeps its cache."""
        stopped = self._stop_growing(session)
        goes_on = any(isinstance(effect, Start) and effect.trees for effect in effects)
        return effects if goes_on else stopped + effects

    def _stop_growing(self, session: DraftSession) -> list[Effect]:
        tree, session.tree = session.tree, 0
        return [StopGrowing(session.id)] if tree else []

    def _follow(self, session: DraftSession, verdict: Verdict, now: float) -> list[Effect]:
        """Draft what a verdict asks for, and read its tokens sooner or later."""
        idle = verdict.next_k == 0 and session.requested_k < 0
        if idle and len(session.ids) - session.requested_length < CATCH_UP:
            return []
        return self._request_draft(session, verdict.next_k, now, verdict.stop_below, verdict.siblings)

    def _request_draft(
        self, session: DraftSession, k: int, now: float, stop_below: int = 0, siblings: int = 0
    ) -> list[Effect]:
        """Request a draft of k tokens after all committed ones; k = 0: only feed them."""
        session.requested_k, session.requested_length = k, len(session.ids)
        if k > 0:
            session.drafted_length = len(session.ids)
        request = DraftRequest(session.id, tuple(session.ids), k, session.sampling, stop_below, siblings)
        return [Start(request, now, session.trees)]

    def _mark_lost(self, session: DraftSession) -> list[Effect]:
        session.lost, session.requested_k = True, -1
        return [*self._stop_growing(session), self._resync(session, "gap")]

    def _on_unknown(self, verdict: Verdict) -> list[Effect]:
        if verdict.session in self._closed:
            return [CountRefusal("late")]
        self._remember(verdict.session)
        if verdict.finish:
            return []
        lost = Resync(verdict.session, verdict.epoch, self.address, verdict.length, "lost")
        return [CountRefusal("unknown"), SendToScheduler(lost)]

    def _drop(self, name: str) -> list[Effect]:
        self._remember(name)
        return [Forget(name)] if self._sessions.pop(name, None) else []

    def _remember(self, name: str) -> None:
        self._closed[name] = None
        while len(self._closed) > REMEMBERED:
            self._closed.popitem(last=False)

    def _in_vocabulary(self, ids: Sequence[int]) -> bool:
        return max(ids, default=0) < self._vocab

    def _resync(self, session: DraftSession, reason: ResyncReason) -> SendToScheduler:
        return SendToScheduler(Resync(session.id, session.epoch, self.address, len(session.ids), reason))

    def _draft(self, session: DraftSession, result: DraftResult, wait_us: int) -> Draft:
        return Draft(
            session.id,
            session.epoch,
            session.round + 1,
            result.base_len,
            self.address,
            result.tokens,
            result.survival,
            result.parents,
            draft_us=result.draft_us,
            wait_us=wait_us,
        )


def _order(message: Tune | Share | Dismiss) -> Effect:
    """What a message for the whole device asks of it."""
    match message:
        case Tune(threads):
            return SetThreads(threads)
        case Share(bits_s):
            return KeepShare(bits_s)
        case Dismiss(why):
            return Dismissed(why)


def _spec(message: Open) -> SessionSpec | None:
    """The session's spec in an Open; None when it is malformed."""
    try:
        return wire.decode_spec(message.spec)
    except wire.WireError:
        return None
