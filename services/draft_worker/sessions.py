"""What a device does on each message: a pure state machine, messages in, effects out.

Committed tokens are applied by absolute position, so every message may come twice, late or never: what is known
is skipped, the rest appended, and for a gap the scheduler is asked for another Open, which brings the session's log.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shared.compute.drafter import DraftRequest, DraftResult
from shared.protocol import wire
from shared.protocol.messages import Close, Dismiss, Draft, Message, Open, Resync, ResyncReason, Tune, Verdict
from shared.protocol.session import SessionSpec
from shared.speculative.params import SamplingParams

REMEMBERED: Final = 256  # sessions that left, so that their late verdicts are told from unknown ones
CATCH_UP: Final = (
    64  # committed tokens that nobody asked a draft after are fed so many at a time, or with the next draft
)


@dataclass(frozen=True, slots=True)
class Start:
    """Give the drafter a request. since: when what caused it arrived (s)."""

    request: DraftRequest
    since: float


@dataclass(frozen=True, slots=True)
class Forget:
    """Free what the drafter holds for a session."""

    session: str


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the scheduler."""

    message: Draft | Resync


@dataclass(frozen=True, slots=True)
class Refuse:
    """Count a message that was not obeyed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Leave:
    """The core wants nothing of this device any more."""

    why: str


@dataclass(frozen=True, slots=True)
class Threads:
    """Compute with this many threads."""

    threads: int


Effect = Start | Forget | Say | Refuse | Threads | Leave


@dataclass(slots=True)
class Session:
    """One session as the device knows it. ids: prompt and committed tokens."""

    id: str
    epoch: int
    heard: float  # when the last message about it came
    sampling: SamplingParams
    ids: list[int]
    round: int = 0
    lost: bool = False  # another Open was asked for; until it comes nothing else counts
    asked: int = -1  # k of the request under way, -1 = none
    asked_at: int = 0  # length at which the last request was made
    drafted_at: int = 0  # length at which a draft was last asked for
    ready: bool = False  # the scheduler has been told that we caught up


class Sessions:
    """All sessions of one device incarnation. address: "name:generation"; vocab: real tokens of the draft model."""

    def __init__(self, address: str, vocab: int, capacity: int) -> None:
        self.address = address
        self._vocab = vocab
        self._capacity = capacity
        self._sessions: dict[str, Session] = {}
        self._left: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def tokens(self) -> int:
        """Committed tokens of all sessions together."""
        return sum(len(session.ids) for session in self._sessions.values())

    def receive(self, message: Message, now: float) -> list[Effect]:
        """What to do on a message from the inbox."""
        match message:
            case Open():
                return self._open(message, now)
            case Verdict():
                return self._verdict(message, now)
            case Close():
                return self._drop(message.session)
            case Tune():
                return [Threads(message.threads)]
            case Dismiss():
                return [Leave(message.why)]
        return [Refuse("kind")]

    def silent(self, before: float, now: float) -> list[Effect]:
        """Ask about sessions that nobody spoke of since `before`: they may have ended or moved without our hearing."""
        asking: list[Effect] = []
        for session in self._sessions.values():
            if session.heard < before:
                session.heard = now
                asking.append(self._resync(session, "gap" if session.lost else "silent"))
        return asking

    def finished(self, result: DraftResult, wait_us: int) -> list[Effect]:
        """The drafter finished a request. wait_us: from the cause's arrival to the start of computing."""
        session = self._sessions.get(result.session)
        if session is None:
            return []
        if result.error:
            return self.refused(result.session)
        if session.lost or result.base_len != len(session.ids):
            return []  # replaced meanwhile
        session.asked = -1
        effects: list[Effect] = []
        if not session.ready:
            session.ready = True
            effects.append(self._resync(session, "ready"))
        if result.tokens:
            effects.append(Say(self._draft(session, result, wait_us)))
        return effects

    def refused(self, name: str) -> list[Effect]:
        """The drafter cannot hold the session (any longer): give it back."""
        session = self._sessions.get(name)
        return [self._resync(session, "no_capacity"), *self._drop(name)] if session else []

    def drop_all(self) -> list[Effect]:
        """The broker was lost: everybody frees everything."""
        self._left.clear()
        return [effect for name in list(self._sessions) for effect in self._drop(name)]

    def leave(self) -> list[Effect]:
        """This device stops: the scheduler moves its sessions."""
        gone: list[Effect] = [self._resync(session, "gone") for session in self._sessions.values()]
        return gone + self.drop_all()

    def wants(self, message: Draft | Resync) -> bool:
        """Whether a message that could not be sent at once is still worth sending."""
        session = self._sessions.get(message.session)
        if isinstance(message, Resync) and message.reason != "ready":
            return True
        return session is not None and message.base_len == len(session.ids)

    def _open(self, message: Open, now: float) -> list[Effect]:
        session = self._sessions.get(message.session)
        if session is not None and message.epoch < session.epoch:
            return [Refuse("stale")]
        if session is None and len(self._sessions) >= self._capacity:
            return self._not_taken(message)
        spec = _spec(message)
        if spec is None or spec.sampling.vocab > self._vocab or not self._drawable(message.committed):
            return [Refuse("log"), *self._not_taken(message)]
        ids = [*spec.prompt, *message.committed]
        if not spec.prompt or not self._drawable(spec.prompt):
            return [Refuse("token"), *self._not_taken(message)]
        if session is None:
            session = Session(message.session, message.epoch, now, spec.sampling, ids)
            self._left.pop(session.id, None)
            self._sessions[session.id] = session
        elif session.ids != ids:
            session.ids, session.asked, session.drafted_at = ids, -1, 0
        session.epoch, session.heard, session.ready, session.lost = message.epoch, now, False, False
        return [] if session.asked >= 0 else self._ask(session, 0, now)

    def _not_taken(self, message: Open) -> list[Effect]:
        no = Resync(message.session, message.epoch, self.address, message.base_len, "no_capacity")
        return [Say(no), *self._drop(message.session)]

    def _verdict(self, verdict: Verdict, now: float) -> list[Effect]:
        session = self._sessions.get(verdict.session)
        if session is None:
            return self._unknown(verdict)
        if not session.lost:
            session.heard = now
        if verdict.status != "ok" or verdict.length != verdict.base_len + len(verdict.tokens):
            return [Refuse("verdict")]
        if verdict.finish:
            return self._drop(session.id)
        if not self._drawable(verdict.tokens):
            return [Refuse("token"), *self.refused(session.id)]
        return [] if session.lost else self._apply(session, verdict, now)

    def _apply(self, session: Session, verdict: Verdict, now: float) -> list[Effect]:
        """Bring the ids up to a verdict and draft as far as it says."""
        known = len(session.ids)
        session.epoch = max(session.epoch, verdict.epoch)
        if verdict.base_len > known:
            return [Refuse("gap"), self._lose(session)]
        overlap = min(known, verdict.length) - verdict.base_len
        if list(verdict.tokens[:overlap]) != session.ids[verdict.base_len : verdict.base_len + overlap]:
            return [Refuse("conflict"), self._lose(session)]
        if verdict.length < known or (verdict.length == known and verdict.next_k == 0):
            return [Refuse("late")]
        if verdict.length == known and session.drafted_at == known:
            return [Refuse("repeated")]
        session.ids.extend(verdict.tokens[overlap:])
        session.round = verdict.round
        idle = verdict.next_k == 0 and session.asked < 0
        if idle and len(session.ids) - session.asked_at < CATCH_UP:
            return []
        return self._ask(session, verdict.next_k, now)

    def _ask(self, session: Session, k: int, now: float) -> list[Effect]:
        """Draft k tokens after all that is known; k = 0: feed it in idle time."""
        session.asked, session.asked_at = k, len(session.ids)
        if k > 0:
            session.drafted_at = len(session.ids)
        return [Start(DraftRequest(session.id, tuple(session.ids), k, session.sampling), now)]

    def _lose(self, session: Session) -> Say:
        session.lost, session.asked = True, -1
        return self._resync(session, "gap")

    def _unknown(self, verdict: Verdict) -> list[Effect]:
        if verdict.session in self._left:
            return [Refuse("late")]
        self._remember(verdict.session)
        if verdict.finish:
            return []
        lost = Resync(verdict.session, verdict.epoch, self.address, verdict.length, "lost")
        return [Refuse("unknown"), Say(lost)]

    def _drop(self, name: str) -> list[Effect]:
        self._remember(name)
        return [Forget(name)] if self._sessions.pop(name, None) else []

    def _remember(self, name: str) -> None:
        self._left[name] = None
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)

    def _drawable(self, ids: Sequence[int]) -> bool:
        return max(ids, default=0) < self._vocab

    def _resync(self, session: Session, reason: ResyncReason) -> Say:
        return Say(Resync(session.id, session.epoch, self.address, len(session.ids), reason))

    def _draft(self, session: Session, result: DraftResult, wait_us: int) -> Draft:
        return Draft(
            session.id,
            session.epoch,
            session.round + 1,
            result.base_len,
            self.address,
            result.tokens,
            draft_us=result.draft_us,
            wait_us=wait_us,
        )


def _spec(message: Open) -> SessionSpec | None:
    """What the session was asked for; None when that is not what it should be."""
    try:
        return wire.decode_spec(message.spec)
    except wire.WireError:
        return None
