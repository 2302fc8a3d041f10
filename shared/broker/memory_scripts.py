"""The Lua scripts' rules in Python, on a MemoryServer. Every method is atomic.

Each docstring names its script. tests/shared/broker/test_twins.py compares the two.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from shared.broker.contract import BrokerFull, CommitOutcome, CommitRow, LeaseLost, UnknownSession
from shared.broker.memory_server import MemoryServer, Stream, number_of
from shared.protocol import limits, wire
from shared.protocol.changes import changed
from shared.protocol.keys import Keys
from shared.protocol.messages import Close, Finish, Heartbeat, Open, Verdict
from shared.protocol.session import SessionHead, SessionLog, SessionSpec

Copies = Callable[[str, bytes], int]


@dataclass(slots=True)
class Log:
    """One session's log as the broker holds it."""

    spec: bytes
    prompt_len: int
    max_tokens: int
    gateway: str
    device_wanted: str
    expires_ms: int
    epoch: int = 0
    verifier: str = ""
    device: str = ""
    finish: Finish = ""
    untold: int | None = None  # position from which on its device has had no verdicts
    ids: list[int] = field(default_factory=list)
    logprobs: list[bytes] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Committed length: prompt and committed tokens."""
        return self.prompt_len + len(self.ids)


@dataclass(slots=True)
class Lease:
    """The active scheduler."""

    holder: str
    term: int


@dataclass(slots=True)
class Beat:
    """A heartbeat."""

    generation: int
    data: bytes


class MemoryScripts:
    """The scripts of one connection. copies(stream, data): how often an added message arrives, normally 1."""

    def __init__(self, server: MemoryServer, keys: Keys, limit: int, copies: Copies) -> None:
        self._server = server
        self._keys = keys
        self._limit = limit
        self._copies = copies

    # --- streams ------------------------------------------------------------------------------------
    def push(self, stream: str, messages: Sequence[bytes]) -> int:
        """push.lua"""
        added = max(0, min(self._limit - self._server.length(stream), len(messages)))
        for data in messages[:added]:
            self._add_work(stream, data)
        return added

    def send(self, inbox: str, data: bytes) -> None:
        """send.lua"""
        for _ in range(self._copies(inbox, data)):
            self._server.add(inbox, data, limits.INBOX_CAP)
            if not self._server.expires(inbox):
                self._server.expire(inbox, limits.INBOX_KEPT_S)

    def open(self, device: str, message: Open) -> bool:
        """open.lua"""
        log = self._server.get(self._keys.session(message.session), Log)
        if log is None:
            return False
        with suppress(wire.WireError):  # too large for a message
            whole = replace(message, spec=log.spec, committed=tuple(log.ids))
            self.send(self._keys.inbox(device), self._server.encode(whole))
        return True

    def ack(self, stream: str, ids: Sequence[str]) -> None:
        """ack.lua"""
        known = self._server.get(stream, Stream)
        if known is not None:
            for id_ in ids:
                known.remove(number_of(id_))

    def dead_letter(self, stream: str, id_: str, data: bytes) -> None:
        """dead.lua"""
        self._server.add(self._keys.dead, data[: limits.DEAD_BYTES], limits.DEAD_CAP)
        self._server.expire(self._keys.dead, limits.DEAD_KEPT_S)
        self.ack(stream, [id_])

    def trace(self, spans: Sequence[bytes]) -> None:
        """trace.lua"""
        self._check_memory()
        for span in spans:
            self._server.add(self._keys.trace, span, limits.TRACE_CAP)
        self._server.expire(self._keys.trace, limits.TRACE_KEPT_S)

    # --- session log --------------------------------------------------------------------------------
    def submit(self, spec: SessionSpec, packed: bytes, data: bytes) -> bool:
        """submit.lua"""
        key = self._keys.session(spec.session)
        if self._server.get(key, Log):
            return False
        self._check_memory()
        self._check_room(self._keys.submit)
        expires_ms = self._server.now_ms() + spec.deadline_ms
        log = Log(packed, len(spec.prompt), spec.max_tokens, spec.gateway, spec.device, expires_ms)
        self._server.put(key, log)
        self._server.expire(key, spec.deadline_ms / 1000 + limits.LOG_KEPT_S)
        self.live().add(spec.session)
        self._add_work(self._keys.submit, data)
        return True

    def head(self, session: str) -> SessionHead:
        """load.lua with 'head'."""
        log = self._log(session)
        return SessionHead(
            session=session,
            prompt_len=log.prompt_len,
            max_tokens=log.max_tokens,
            gateway=log.gateway,
            device_wanted=log.device_wanted,
            deadline_ms=max(0, log.expires_ms - self._server.now_ms()),
            epoch=log.epoch,
            verifier=log.verifier,
            device=log.device,
            committed=len(log.ids),
            finish=log.finish,
        )

    def load(self, session: str) -> SessionLog:
        """load.lua with 'whole'."""
        log = self._log(session)
        logprobs = tuple(wire.decode_logprobs(entry) for entry in log.logprobs)
        return SessionLog(wire.decode_spec(log.spec), self.head(session), tuple(log.ids), logprobs)

    def live(self) -> set[str]:
        """The set of live sessions."""
        return self._server.make(self._keys.live, set[str], set)

    def place(self, session: str, epoch: int, verifier: str, device: str) -> bool:
        """place.lua"""
        log = self._server.get(self._keys.session(session), Log)
        if log is None or log.finish or log.epoch > epoch:
            return False
        log.epoch, log.verifier, log.device = epoch, verifier, device
        return True

    def end(self, session: str, close: Close, data: bytes, verifier: str, inboxes: Sequence[str]) -> bool:
        """end.lua"""
        was_live = session in self.live()
        self.live().discard(session)
        log = self._server.get(self._keys.session(session), Log)
        if log is not None and not log.finish:
            self._finish(session, log, close.finish)
        if verifier and self._server.length(self._keys.staged(verifier)) < self._limit:
            self._add_work(self._keys.staged(verifier), data)
        for inbox in inboxes:
            self.send(inbox, data)
        return was_live

    def commit(
        self, verifier: str, entry_id: str, rows: Sequence[tuple[CommitRow, bytes]]
    ) -> list[CommitOutcome]:
        """commit.lua"""
        outcomes = [self._commit_row(row, data) for row, data in rows]
        if entry_id:
            self.ack(self._keys.staged(verifier), [entry_id])
        return outcomes

    def _commit_row(self, row: CommitRow, data: bytes) -> CommitOutcome:
        verdict = row.verdict
        log = self._server.get(self._keys.session(verdict.session), Log)
        length = log.length if log else 0
        if verdict.status != "ok":
            self._send_to_scheduler(verdict)
            return CommitOutcome("told", length)
        if log is None:
            return CommitOutcome("unknown", 0)
        if verdict.epoch < log.epoch:
            return CommitOutcome("stale", length)
        if verdict.epoch > log.epoch or verdict.base_len > length:
            reason = (
                f"row of epoch {verdict.epoch} after {verdict.base_len} tokens; "
                f"the log has epoch {log.epoch} and {length} tokens"
            )
            self._send_to_scheduler(
                replace(verdict, status="error", message=reason, length=length, finish="")
            )
            return CommitOutcome("ahead", length)
        if verdict.base_len < length or log.finish:
            self._send_copies(row, log, _answer(verdict, log))
            return CommitOutcome("answered", length)
        log.ids += verdict.tokens
        log.logprobs += [wire.encode_logprobs(entry) for entry in verdict.logprobs]
        if verdict.finish:
            self._finish(verdict.session, log, verdict.finish)
        self._send_copies(row, log, verdict, data)
        return CommitOutcome("committed", log.length)

    # --- scheduler ----------------------------------------------------------------------------------
    def acquire(self, holder: str, ttl_s: float) -> int:
        """acquire.lua"""
        lease = self._server.get(self._keys.lease, Lease)
        if lease is not None and lease.holder != holder:
            return 0
        term = self._server.next_number(self._keys.term)
        self._server.put(self._keys.lease, Lease(holder, term))
        self._server.expire(self._keys.lease, ttl_s)
        return term

    def renew(self, holder: str, term: int, ttl_s: float) -> bool:
        """renew.lua"""
        if self._server.get(self._keys.lease, Lease) != Lease(holder, term):
            return False
        self._server.expire(self._keys.lease, ttl_s)
        return True

    def release(self, holder: str, term: int) -> None:
        """release.lua"""
        if self._server.get(self._keys.lease, Lease) == Lease(holder, term):
            self._server.drop(self._keys.lease)

    def stage(self, verifier: str, data: bytes, drafts: Sequence[str], holder: str) -> None:
        """stage.lua"""
        lease = self._server.get(self._keys.lease, Lease)
        if lease is None or lease.holder != holder:
            raise LeaseLost(f"{holder} is not the active scheduler")
        self._check_room(self._keys.staged(verifier))
        self._add_work(self._keys.staged(verifier), data)
        self.ack(self._keys.draft, drafts)

    # --- who is there -------------------------------------------------------------------------------
    def beat(self, heartbeat: Heartbeat, data: bytes, ttl_s: float) -> int:
        """beat.lua"""
        role, name, generation = heartbeat.role, heartbeat.name, heartbeat.generation
        key = self._keys.alive(role, name)
        held = self._server.get(key, Beat)
        if held is not None and held.generation > generation:
            raise LeaseLost(f"{role} {name} has a newer generation than {generation}")
        self._server.put(key, Beat(generation, data))
        self._server.expire(key, ttl_s)
        self._list(role, name, ttl_s)
        for inbox in self._keys.own(role, f"{name}:{generation}"):
            self._server.expire(inbox, limits.INBOX_KEPT_S)
        return 1000 * self._server.now_ms()

    def leave(self, role: str, name: str, generation: int) -> None:
        """leave.lua"""
        held = self._server.get(self._keys.alive(role, name), Beat)
        if held is not None and held.generation == generation:
            self._server.drop(self._keys.alive(role, name))
            self._names(role).discard(name)

    def alive(self, role: str) -> list[bytes]:
        """alive.lua, with the read of the names before it."""
        beats = [self._server.get(self._keys.alive(role, name), Beat) for name in sorted(self._names(role))]
        return [beat.data for beat in beats if beat is not None]

    def enlist(self, expiries: Mapping[str, int]) -> list[str]:
        """enlist.lua"""
        expired = []
        for name, expires_ms in expiries.items():
            key = self._keys.alive("draft_worker", name)
            beat = self._server.get(key, Beat)
            if beat and 0 < expires_ms < self._server.now_ms():
                expired.append(f"{name}:{beat.generation}")
                self._names("draft_worker").discard(name)
            elif beat:
                self._list("draft_worker", name, self._server.ttl(key))
        return expired

    def put(self, key: str, fields: Mapping[str, str]) -> None:
        """put.lua"""
        self._check_memory()
        self._server.drop(key)
        if fields:
            self._server.put(key, dict(fields))

    # --- below --------------------------------------------------------------------------------------
    def _check_memory(self) -> None:
        """Check the server's memory. Raises BrokerFull."""
        if self._server.full:
            raise BrokerFull("the broker's memory is full")

    def no_room(self, stream: str) -> BrokerFull:
        """The error for a work stream at its bound."""
        return BrokerFull(f"{stream} holds {self._limit} entries")

    def _check_room(self, stream: str) -> None:
        if self._server.length(stream) >= self._limit:
            raise self.no_room(stream)

    def _names(self, role: str) -> set[str]:
        """Listed names of a role. Unlike the scripts' sorted set they stay while others are listed."""
        return self._server.get(self._keys.names(role), set) or set()

    def _list(self, role: str, name: str, ttl_s: float) -> None:
        names = self._keys.names(role)
        self._server.make(names, set[str], set).add(name)
        self._server.expire(names, max(ttl_s, self._server.ttl(names)))

    def _add_work(self, stream: str, data: bytes) -> None:
        for _ in range(self._copies(stream, data)):
            self._server.add(stream, data)

    def _log(self, session: str) -> Log:
        log = self._server.get(self._keys.session(session), Log)
        if log is None:
            raise UnknownSession(session)
        return log

    def _finish(self, session: str, log: Log, finish: Finish) -> None:
        log.finish = finish
        self.live().discard(session)
        self._server.expire(self._keys.session(session), limits.LOG_KEPT_S)

    def _send_to_scheduler(self, verdict: Verdict) -> None:
        self._add_work(self._keys.verdicts, self._server.encode(changed(verdict, tokens=(), logprobs=())))

    def _send_copies(self, row: CommitRow, log: Log, verdict: Verdict, full: bytes = b"") -> None:
        if row.gateway:
            self.send(self._keys.reply(row.gateway), full or self._server.encode(verdict))
        if row.device and _deferred(verdict):
            log.untold = verdict.base_len if log.untold is None else log.untold
        elif row.device:
            copy = _for_device(verdict, log)
            data = full if full and copy is verdict else self._server.encode(copy)
            self.send(self._keys.inbox(row.device), data)
            log.untold = None
        self._send_to_scheduler(verdict)


def _deferred(verdict: Verdict) -> bool:
    """Whether the device's copy can wait: the device drafts nothing next, and no block of tokens is full."""
    blocks = [length // limits.BLOCK_TOKENS for length in (verdict.base_len, verdict.length)]
    return verdict.next_k == 0 and not verdict.tree and not verdict.finish and blocks[0] == blocks[1]


def _for_device(verdict: Verdict, log: Log) -> Verdict:
    """The device's copy: all tokens that the device has not had yet, without log-probabilities."""
    behind = 0 if log.untold is None else verdict.base_len - log.untold
    if log.untold is None or not 0 < behind <= 2 * limits.BLOCK_TOKENS:
        return replace(verdict, logprobs=()) if verdict.logprobs else verdict
    tokens = tuple(log.ids[log.untold - log.prompt_len :])
    return replace(verdict, logprobs=(), base_len=log.untold, tokens=tokens)


def _answer(verdict: Verdict, log: Log) -> Verdict:
    """The log from base_len on. If that exceeds a message: no tokens, which the reader sees as a gap."""
    start = max(0, verdict.base_len - log.prompt_len)
    answer = replace(
        verdict,
        base_len=log.prompt_len + start,
        tokens=tuple(log.ids[start:]),
        length=log.length,
        logprobs=tuple(wire.decode_logprobs(entry) for entry in log.logprobs[start:]),
        drafted=0,
        accepted=0,
        straight=0,
        fused_drafted=0,
        fused_accepted=0,
        next_k=0 if log.finish else verdict.next_k,
        finish=log.finish,
        keeps=False,
        tree=0,
    )
    try:
        wire.encode(answer)
    except wire.WireError:
        return replace(answer, base_len=log.length, tokens=(), logprobs=())
    return answer
