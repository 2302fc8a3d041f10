"""What a device does on each message: a pure state machine, messages in, effects out.

Committed tokens are applied by absolute position, so every message may come twice, late or never: what is known
is skipped, the rest appended, and a gap is closed from the session log.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.compute.drafter import DraftRequest, DraftResult
from shared.protocol.messages import Close, Draft, Message, Open, Resync, ResyncReason, Tune, Verdict
from shared.protocol.session import SessionHead, SessionLog
from shared.speculative.params import SamplingParams

REMEMBERED: Final = 4096  # sessions that left, so that their late verdicts are told from unknown ones
CATCH_UP: Final = (
    64  # committed tokens that nobody asked a draft after are fed so many at a time, or with the next draft
)
HELD_BACK: Final = 64  # verdicts kept while a log is read; more are found in the log when a gap shows


@dataclass(frozen=True, slots=True)
class Load:
    """Read the session's log, then call `loaded`."""

    session: str


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
class Threads:
    """Compute with this many threads."""

    threads: int


Effect = Load | Start | Forget | Say | Refuse | Threads


@dataclass(slots=True)
class Session:
    """One session as the device knows it. ids: prompt and committed tokens, [] until its log was read."""

    id: str
    epoch: int
    heard: float  # when the last message about it came
    sampling: SamplingParams | None = None
    ids: list[int] = field(default_factory=list)
    round: int = 0
    loading: bool = False
    held_back: list[Verdict] = field(default_factory=list)  # came while the log was read
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
        return [Refuse("kind")]

    def loaded(self, name: str, log: SessionLog | None, now: float) -> list[Effect]:
        """The log of a session was read; None: there is none."""
        session = self._sessions.get(name)
        if session is None or not session.loading:
            return []
        if log is None or not self._ours(log.head):
            return self._drop(name)
        if log.spec.sampling.vocab > self._vocab or not self._drawable(log.ids) or not log.ids:
            return [Refuse("token"), *self.refused(name)]
        session.loading = False
        session.epoch = max(session.epoch, log.head.epoch)
        session.sampling = log.spec.sampling
        session.ids, session.drafted_at = list(log.ids), 0
        held_back, session.held_back = session.held_back, []
        effects = self._ask(session, 0, now)
        for verdict in held_back:
            if verdict.base_len > len(session.ids):  # beyond the log itself: reading it again would not help
                effects.append(Refuse("ahead"))
            else:
                effects += self._verdict(verdict, now)
        return effects

    def checked(self, name: str, head: SessionHead | None, now: float) -> list[Effect]:
        """The head of a session nobody spoke of was read: it may have ended or moved without our hearing of it."""
        session = self._sessions.get(name)
        if session is None:
            return []
        session.heard = now
        return [] if self._ours(head) else self._drop(name)

    def finished(self, result: DraftResult, wait_us: int) -> list[Effect]:
        """The drafter finished a request. wait_us: from the cause's arrival to the start of computing."""
        session = self._sessions.get(result.session)
        if session is None:
            return []
        if result.error:
            return self.refused(result.session)
        if session.loading or result.base_len != len(session.ids):
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

    def silent(self, before: float) -> list[str]:
        """Sessions nobody spoke of since."""
        return [session.id for session in self._sessions.values() if session.heard < before]

    def wants(self, message: Draft | Resync) -> bool:
        """Whether a message that could not be sent at once is still worth sending."""
        session = self._sessions.get(message.session)
        if isinstance(message, Resync) and message.reason != "ready":
            return True
        return session is not None and message.base_len == len(session.ids)

    def _open(self, message: Open, now: float) -> list[Effect]:
        session = self._sessions.get(message.session)
        if session is None:
            return self._open_new(message, now)
        if message.epoch < session.epoch:
            return [Refuse("stale")]
        session.epoch, session.heard, session.ready = message.epoch, now, False
        if session.loading:
            return []
        if message.base_len > len(session.ids):
            return self._load(session)
        return [] if session.asked >= 0 else self._ask(session, 0, now)

    def _open_new(self, message: Open, now: float) -> list[Effect]:
        session = Session(message.session, message.epoch, now)
        if len(self._sessions) >= self._capacity:
            self._remember(session.id)
            return [self._resync(session, "no_capacity")]
        self._left.pop(session.id, None)
        self._sessions[session.id] = session
        return self._load(session)

    def _verdict(self, verdict: Verdict, now: float) -> list[Effect]:
        session = self._sessions.get(verdict.session)
        if session is None:
            return self._unknown(verdict)
        session.heard = now
        if verdict.status != "ok" or verdict.length != verdict.base_len + len(verdict.tokens):
            return [Refuse("verdict")]
        if verdict.finish:
            return self._drop(session.id)
        if not self._drawable(verdict.tokens):
            return [Refuse("token"), *self.refused(session.id)]
        if session.loading:
            session.held_back = [*session.held_back, verdict][-HELD_BACK:]
            return []
        return self._apply(session, verdict, now)

    def _apply(self, session: Session, verdict: Verdict, now: float) -> list[Effect]:
        """Bring the ids up to a verdict and draft as far as it says."""
        known = len(session.ids)
        session.epoch = max(session.epoch, verdict.epoch)
        if verdict.base_len > known:
            session.held_back = [verdict]
            return [Refuse("gap"), *self._load(session)]
        overlap = min(known, verdict.length) - verdict.base_len
        if list(verdict.tokens[:overlap]) != session.ids[verdict.base_len : verdict.base_len + overlap]:
            return [Refuse("conflict"), *self._load(session)]
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
        if session.sampling is None:  # its log was never read
            return self._load(session)
        session.asked, session.asked_at = k, len(session.ids)
        if k > 0:
            session.drafted_at = len(session.ids)
        return [Start(DraftRequest(session.id, tuple(session.ids), k, session.sampling), now)]

    def _load(self, session: Session) -> list[Effect]:
        session.loading, session.asked = True, -1
        return [Load(session.id)]

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

    def _ours(self, head: SessionHead | None) -> bool:
        return head is not None and not head.finish and head.device in ("", self.address)

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
