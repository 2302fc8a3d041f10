"""One incarnation of a device: its inbox, outbox and sessions under one generation. `sessions.py` holds the rules."""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from services.draft_worker.compute_loop import ComputeLoop
from services.draft_worker.link import DelayLine, Link
from services.draft_worker.metrics import Metrics
from services.draft_worker.outbox import Outbox
from services.draft_worker.sessions import (
    CountRefusal,
    Dismissed,
    DraftSessions,
    Effect,
    Forget,
    SendToScheduler,
    SetThreads,
    Start,
)
from services.draft_worker.timeline import Timeline
from shared.broker.contract import BrokerAway, Entry
from shared.broker.device_broker import DeviceStreams
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Draft, Resync
from shared.runtime.ids import Ids
from shared.runtime.loop import run_forever
from shared.runtime.service import Refused
from shared.runtime.watch import BrokerWatch

log = structlog.get_logger()

BLOCK_S: Final = 2.0  # longest wait in one read of the inbox
READ: Final = 64  # entries in one read
SILENT_S: Final = 10.0  # a session without a message for this long is queried


class Incarnation:
    """Serves under one address until `over` is set."""

    def __init__(
        self,
        address: str,
        sessions: DraftSessions,
        computing: ComputeLoop,
        streams: DeviceStreams,
        keys: Keys,
        link: Link,
        ids: Ids,
        metrics: Metrics,
        timeline: Timeline,
    ) -> None:
        self.sessions = sessions
        self._computing, self._streams, self._metrics = computing, streams, metrics
        self._timeline = timeline
        self._keys, self._inbox, self._after = keys, keys.inbox(address), "0"
        self._link = link
        self._arrivals: DelayLine[Entry] = DelayLine(link)
        self._outbox = Outbox(streams, keys.draft, link, ids, metrics, sessions.is_current, timeline)
        metrics.track(address.rpartition(":")[0], sessions)

    async def run(self, watch: BrokerWatch, over: asyncio.Event) -> None:
        """Serve until `over` is set. Call `stop` afterwards."""
        turns = {
            "arrivals": self._handle,
            "computing": self._compute,
            "outbox": self._outbox.turn,
        }
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(run_forever(self._read, watch, over, "inbox"))
            tasks.create_task(self._close_on(over, reading))
            for name, turn in turns.items():
                tasks.create_task(run_forever(turn, watch, over, name))

    async def stop(self, notify: bool) -> None:
        """Free all sessions. notify: tell the scheduler, which moves them."""
        self._do(self.sessions.release() if notify else self.sessions.drop_all())
        await self._outbox.flush()
        await self._computing.forget(())

    def drop_all(self) -> None:
        """Free all sessions without a message, after the broker was lost."""
        self._outbox.clear()
        self._arrivals.clear()
        self._do(self.sessions.drop_all())

    def query_silent(self) -> None:
        """Query sessions without a message for SILENT_S: their end or move may have been lost."""
        now = asyncio.get_running_loop().time()
        self._do(self.sessions.query_silent(now - SILENT_S, now))

    # --- turns --------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Read the inbox once."""
        for entry in await self._streams.read_inbox(self._inbox, self._after, READ, BLOCK_S):
            self._after = entry.id
            self._metrics.link_bytes.add(len(entry.data), "in")
            self._arrivals.put(entry, len(entry.data))

    async def _handle(self) -> None:
        """Handle the entries that the link delivers."""
        for entry in await self._arrivals.take():
            await self._handle_one(entry)

    async def _handle_one(self, entry: Entry) -> None:
        try:
            message = wire.decode(entry.data)
        except wire.WireError as error:
            await self._dead_letter(entry, str(error))
            return
        self._metrics.messages.add(1, type(message).__name__.lower())
        self._do(self.sessions.receive(message, asyncio.get_running_loop().time()))

    async def _compute(self) -> None:
        """Run one decode and handle the requests that it finished."""
        turn = await self._computing.turn()
        for session in turn.refused:
            self._do(self.sessions.refused(session))
        for finished in turn.finished:
            effects = self.sessions.finished(finished.result, finished.wait_us)
            for effect in effects:
                if isinstance(effect, SendToScheduler) and isinstance(effect.message, Draft):
                    self._timeline.drafted(effect.message, finished)
            self._do(effects)

    # --- effects ------------------------------------------------------------------------------------

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Start() | Forget():
                    self._computing.order(effect)
                case SendToScheduler(message):
                    self._send(message)
                case CountRefusal(reason):
                    self._metrics.refused.labels(reason).inc()
                case SetThreads(threads):
                    self._computing.set_threads(threads)
                case Dismissed(why):
                    raise Refused(why)

    def _send(self, message: Draft | Resync) -> None:
        if isinstance(message, Resync):
            level = log.debug if message.reason == "ready" else log.info
            level("resync", session=message.session, reason=message.reason, length=message.base_len)
        self._outbox.put(message)

    async def _dead_letter(self, entry: Entry, reason: str) -> None:
        self._metrics.refused.labels("undecodable").inc()
        try:
            await self._streams.dead_letter(entry, reason)
        except BrokerAway as error:
            log.warning("undecodable message not kept", why=str(error))

    async def _close_on(self, over: asyncio.Event, reading: asyncio.Task[None]) -> None:
        await over.wait()
        reading.cancel()  # it may block in a read
        self._arrivals.close()
        self._outbox.close()
        self._computing.wake()
