"""All sessions of one gateway: opens them, applies replies from the inbox and cancels those without a reader.

`run` runs four loops: register and read replies, send cancels, check quiet sessions, heartbeat.
"""

import asyncio
from collections import Counter
from functools import partial
from typing import Final

import structlog

from services.gateway.cancels import Cancels
from services.gateway.session import Emitted, Event, GatewaySession, Reason, SessionRequest
from services.gateway.stream import Stream
from services.gateway.timeline import Timeline
from shared.broker.contract import Broker, BrokerAway, BrokerFull, Entry, UnknownSession
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Close, Finish, Heartbeat, Submit, Verdict
from shared.protocol.session import SessionSpec
from shared.runtime.ids import Ids
from shared.runtime.loop import run_forever
from shared.runtime.presence import Presence
from shared.runtime.settings import GatewaySettings
from shared.runtime.watch import BrokerWatch
from shared.runtime.watch import Event as WatchEvent

ROLE: Final = "gateway"
BLOCK_S: Final = 1.0  # one blocking read of the reply inbox
READ_COUNT: Final = 256
SUBMIT_PAUSES_S: Final = (0.05, 0.2)  # between tries: a connection that was cut comes back in no time
TICK_S: Final = 0.5
QUIET_S: Final = 2.0  # a session without a reply for this long is looked up in its log
TOTALS: Final = ("tokens", "drafted", "accepted", "rounds", "rejections")
OVERDUE_S: Final = 2.0  # past its deadline the scheduler gets this long to end a session

log = structlog.get_logger()


class Unavailable(RuntimeError):
    """No session can be opened now: the broker is away or full, or this gateway is not registered or shuts down."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class GatewaySessions:
    """Use: `stream = await sessions.open(request)`, `async for event in stream`, finally `stream.close()`."""

    def __init__(self, settings: GatewaySettings, broker: Broker, watch: BrokerWatch, ids: Ids) -> None:
        self.address = ""  # "name:generation"; "" = not registered (yet, or after the broker lost its data)
        self.counts: Counter[str] = Counter()  # events by name, exported as metrics
        self.totals: Counter[str] = Counter(dict.fromkeys(TOTALS, 0))  # tokens and rounds of all sessions
        self._settings = settings
        self._broker = broker
        self._watch = watch
        self._ids = ids
        self._keys = Keys(settings.shard)
        self._name = settings.name or ROLE
        self._generation = 0
        self._cursor = "0"
        self._sessions: dict[str, GatewaySession] = {}
        self._cancels = Cancels(broker.streams, self._keys, self.counts)
        self._registered = asyncio.Event()
        self._shutting_down = False
        self._timeline = Timeline(broker.streams, self._name, settings.trace)
        watch.on_change(self._on_watch)

    def __len__(self) -> int:
        return len(self._sessions)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until stop is set; call `shut_down` before. Raises Superseded when a newer gateway has the name."""
        async with asyncio.TaskGroup() as group:
            group.create_task(run_forever(self._read, self._watch, stop, "replies"))
            group.create_task(run_forever(partial(self._cancels.turn, TICK_S), self._watch, stop, "cancels"))
            group.create_task(run_forever(self._check_quiet_sessions, self._watch, stop, "quiet sessions"))
            group.create_task(self._run_presence(stop))
        try:
            await self._cancels.send()
        except BrokerAway:
            log.warning("cancels not sent", sessions=len(self._cancels))

    async def open(self, *requests: SessionRequest) -> Stream:
        """Open sessions together; events carry the index of their request. Raises Unavailable."""
        stream = Stream(len(requests), self._cancel)
        try:
            for index, request in enumerate(requests):
                await self._submit(self._new(index, request, stream))
        except BaseException:  # cancellation included: sessions opened so far must not run on
            stream.close()
            raise
        return stream

    def not_ready_reason(self) -> str | None:
        """Why no session can be opened now; None when one can."""
        if self._shutting_down:
            return "this gateway is shutting down"
        if not self._watch.up:
            return "the broker is away"
        return None if self.address else "this gateway is not registered yet"

    def shut_down(self) -> None:
        """Open no more sessions, and end the running ones with an error."""
        self._shutting_down = True
        self._fail_all("draining", "this gateway is shutting down", cancel=True)

    def _cancel(self, session: GatewaySession, reason: Finish) -> None:
        """Forget a session, and have the scheduler end it if it has not ended."""
        if not self._forget(session):
            return
        session.finished = True
        self._cancels.add(session.spec.session, reason)

    # --- opening ------------------------------------------------------------------------------------
    def _new(self, index: int, request: SessionRequest, stream: Stream) -> GatewaySession:
        if (not_ready_reason := self.not_ready_reason()) is not None:
            raise Unavailable(not_ready_reason)
        spec = SessionSpec(
            session=self._ids.session(self._settings.shard),
            prompt=request.prompt,
            sampling=request.sampling,
            max_tokens=request.max_tokens,
            stop_ids=request.stop_ids,
            gateway=self.address,
            deadline_ms=int(self._settings.request_timeout_s * 1000),
            logprobs=request.logprobs,
            device=request.device,
        )
        deadline_at = asyncio.get_running_loop().time() + self._settings.request_timeout_s
        session = GatewaySession(index, spec, deadline_at, partial(self._deliver, stream))
        self._sessions[spec.session] = session  # before submitting: its first verdict may arrive earlier
        stream.members.append(session)
        return session

    async def _submit(self, session: GatewaySession) -> None:
        """Submit a session, retrying while the broker is away: a repeated submit is a no-op there."""
        spec = session.spec
        message = Submit(
            spec.session,
            len(spec.prompt),
            spec.max_tokens,
            spec.deadline_ms,
            spec.gateway,
            spec.device,
            spec.sampling.temperature,
        )
        for pause_s in (*SUBMIT_PAUSES_S, None):
            try:
                await self._broker.sessions.submit(spec, message)
            except BrokerFull as error:
                raise Unavailable("too many requests are waiting") from error
            except BrokerAway as error:
                if pause_s is None or self._watch.lost:
                    raise Unavailable("the broker is away") from error
                await asyncio.sleep(pause_s)
            else:
                session.last_reply_at = asyncio.get_running_loop().time()
                log.debug("session opened", session=spec.session, prompt=len(spec.prompt))
                return

    def _deliver(self, stream: Stream, event: Event) -> None:
        if isinstance(event, Emitted):
            session = stream.members[event.index]
            if session.length - len(event.tokens) == len(session.spec.prompt):
                opened_at = session.deadline_at - self._settings.request_timeout_s
                self._timeline.waited(session.spec.session, opened_at, asyncio.get_running_loop().time())
            self.totals["tokens"] += len(event.tokens)
            self.totals["drafted"] += event.drafted
            self.totals["accepted"] += event.accepted
            self.totals["rounds"] += event.drafted > 0
            # A round whose text ended within its accepted draft had no rejection.
            self.totals["rejections"] += event.accepted < min(event.drafted, len(event.tokens))
        stream.put(event)

    # --- replies ------------------------------------------------------------------------------------
    async def _read(self) -> None:
        if not self.address:
            await self._register()
            return
        address = self.address
        entries = await self._broker.streams.read_inbox(
            self._keys.reply(address), self._cursor, READ_COUNT, BLOCK_S
        )
        for entry in entries:
            if address != self.address:
                return  # the broker lost its data meanwhile
            await self._handle(entry)
            self._cursor = (
                entry.id
            )  # only now, so that an entry interrupted by a lost connection is read again

    async def _handle(self, entry: Entry) -> None:
        self.counts["reply_bytes"] += len(entry.data)
        try:
            message = wire.decode(entry.data)
        except wire.WireError as error:
            await self._dead_letter(entry, str(error))
            return
        if not isinstance(message, Verdict | Close):
            await self._dead_letter(entry, f"{type(message).__name__} in a reply inbox")
            return
        session = self._sessions.get(message.session)
        if session is None:
            self.counts["replies_for_nobody"] += 1
            return
        session.last_reply_at = asyncio.get_running_loop().time()
        if isinstance(message, Verdict):
            if message.status == "ok" and not session.apply(message):
                self.counts["gaps"] += 1
                await self._catch_up(session)
        else:
            if message.finish != "error":
                await self._catch_up(session)  # its last tokens, in case their verdict was lost
            session.close(message)
        self._forget_if_finished(session)

    async def _dead_letter(self, entry: Entry, why: str) -> None:
        self.counts["refused_messages"] += 1
        log.warning("reply refused", why=why)
        await self._broker.streams.dead_letter(entry, why)

    async def _catch_up(self, session: GatewaySession) -> None:
        try:
            session.catch_up(await self._broker.sessions.load(session.spec.session))
        except UnknownSession:
            session.fail("broker", "the session's log is gone")
        except ValueError as error:  # corrupt bytes in the log
            session.fail("error", f"the session's log cannot be read: {error}")
        self._forget_if_finished(session)

    def _forget_if_finished(self, session: GatewaySession) -> None:
        if session.finished and self._forget(session):
            log.debug("session ended", session=session.spec.session, length=session.length)

    def _forget(self, session: GatewaySession) -> bool:
        """Forget a session. False when it was forgotten before."""
        return self._sessions.pop(session.spec.session, None) is not None

    # --- presence -----------------------------------------------------------------------------------
    async def _register(self) -> None:
        """Take a generation and beat before opening sessions, so that no scheduler takes their gateway for dead."""
        if not self._watch.up:
            await asyncio.sleep(0.05)
            return
        losses = self._watch.generation
        generation = await self._broker.presence.next_generation()
        self._generation = generation
        await Presence(self._broker.presence, self._heartbeat).announce()
        if losses != self._watch.generation:
            return
        self.address, self._cursor = f"{self._name}:{generation}", "0"
        self._registered.set()
        log.info("registered", address=self.address)

    async def _run_presence(self, stop: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (stop, self._registered)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        await Presence(self._broker.presence, self._heartbeat).run(stop)

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(ROLE, self._name, self._generation, load=len(self._sessions))

    def _on_watch(self, event: WatchEvent) -> None:
        if event == "lost":
            self._fail_all("broker", "the broker is away", cancel=True)
        elif event == "reset":
            self._fail_all("broker", "the broker lost its data", cancel=False)
            self._cancels.clear()
            self.address = ""

    def _fail_all(self, reason: Reason, message: str, cancel: bool) -> None:
        for session in list(self._sessions.values()):
            session.fail(reason, message)
            if cancel:
                self._cancel(session, "cancel")
            self._forget_if_finished(session)

    # --- quiet sessions -----------------------------------------------------------------------------
    async def _check_quiet_sessions(self) -> None:
        """Look up quiet sessions in their logs, since replies may be lost and schedulers may die."""
        await asyncio.sleep(TICK_S)
        await self._timeline.write()
        now = asyncio.get_running_loop().time()
        for session in list(self._sessions.values()):
            overdue = now > session.deadline_at + OVERDUE_S
            if self._watch.up and (overdue or now - session.last_reply_at > QUIET_S):
                session.last_reply_at = now
                await self._check_log(session)
            if overdue and not session.finished:
                session.fail("deadline", "the request took longer than this server allows")
                self._cancel(session, "deadline")

    async def _check_log(self, session: GatewaySession) -> None:
        try:
            head = await self._broker.sessions.head(session.spec.session)
        except UnknownSession:
            session.fail("broker", "the session's log is gone")
            self._forget_if_finished(session)
            return
        if head.finish or head.length > session.length:
            self.counts["missed_replies"] += 1
            await self._catch_up(session)
