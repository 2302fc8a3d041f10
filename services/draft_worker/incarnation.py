"""One incarnation of a device: its inbox, outbox and sessions under one generation. `sessions.py` holds the rules."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from services.draft_worker.compute_loop import ComputeLoop, Finished
from services.draft_worker.grown_trees import Grow, StopGrowing
from services.draft_worker.growth_loop import GrowthLoop
from services.draft_worker.link import Delivery, Link
from services.draft_worker.metrics import Metrics
from services.draft_worker.outbox import Outbox
from services.draft_worker.sessions import (
    CountRefusal,
    Dismissed,
    DraftSessions,
    Effect,
    Forget,
    KeepShare,
    SendToScheduler,
    SetThreads,
    Start,
)
from services.draft_worker.timeline import Timeline
from shared.broker.contract import BrokerAway, Entry
from shared.broker.device_broker import DeviceStreams
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Draft, Message, Resync, Share
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
        growing: GrowthLoop,
        streams: DeviceStreams,
        keys: Keys,
        link: Link,
        ids: Ids,
        metrics: Metrics,
        timeline: Timeline,
    ) -> None:
        self.sessions = sessions
        self._computing, self._growing = computing, growing
        self._streams, self._metrics = streams, metrics
        self._timeline, self._link = timeline, link
        self._name = address.rpartition(":")[0]
        self._keys, self._inbox, self._after = keys, keys.inbox(address), "0"
        self._arrivals: Delivery[Message] = Delivery(link, self._receive)
        self._error: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._outbox = Outbox(streams, keys.draft, link, ids, metrics, sessions.is_current, timeline)
        metrics.track(self._name, sessions)

    async def run(self, watch: BrokerWatch, over: asyncio.Event) -> None:
        """Serve until `over` is set. Call `stop` afterwards."""
        turns = {"computing": self._compute, "growing": self._grow, "outbox": self._outbox.turn}
        try:
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(run_forever(self._read, watch, over, "inbox"))
                failing = tasks.create_task(self._raise_error())
                tasks.create_task(self._close_on(over, reading, failing))
                for name, turn in turns.items():
                    tasks.create_task(run_forever(turn, watch, over, name))
        finally:
            self._arrivals.close()

    async def stop(self, notify: bool) -> None:
        """Free all sessions. notify: tell the scheduler, which moves them."""
        self._do(self.sessions.release() if notify else self.sessions.drop_all())
        await self._outbox.flush()
        self._growing.drop_all()
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
        """Read the inbox once, and hand the messages to the link, which delivers them to `_receive`."""
        for entry in await self._streams.read_inbox(self._inbox, self._after, READ, BLOCK_S):
            self._after = entry.id
            self._metrics.link_bytes.add(len(entry.data), "in")
            try:
                message = wire.decode(entry.data)
            except wire.WireError as error:
                await self._dead_letter(entry, str(error))
            else:
                self._take_in(message, len(entry.data))

    def _take_in(self, message: Message, size: int) -> None:
        """Hand a message to the link. A share counts at once: it must not wait for what is slow without it."""
        if isinstance(message, Share):
            self._receive(message)
        else:
            self._arrivals.put(message, size)

    def _receive(self, message: Message) -> None:
        """Handle a message that has arrived. A callback of the loop cannot raise: `_raise_error` does."""
        self._metrics.messages.add(1, type(message).__name__.lower())
        try:
            self._do(self.sessions.receive(message, asyncio.get_running_loop().time()))
        except Exception as error:  # a dismissal, and whatever else must end this device
            if not self._error.done():
                self._error.set_result(error)

    async def _raise_error(self) -> None:
        raise await self._error

    async def _compute(self) -> None:
        """Run one decode and handle the requests that it finished."""
        turn = await self._computing.turn()
        for session in turn.refused:
            self._do(self.sessions.refused(session))
        self._take(turn.finished)

    def _take(self, drafts: Sequence[Finished]) -> None:
        for finished in drafts:
            effects = self.sessions.finished(finished.result, finished.wait_us)
            for effect in effects:
                if isinstance(effect, SendToScheduler) and isinstance(effect.message, Draft):
                    self._timeline.drafted(effect.message, finished)
            self._do(effects)

    async def _grow(self) -> None:
        """Grow the trees by a level, and send what was found."""
        turn = await self._growing.turn()
        self._take(turn.finished)
        for nodes in turn.nodes:
            self._do(self.sessions.grown(nodes))

    # --- effects ------------------------------------------------------------------------------------

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Start():
                    trees = effect.trees and self._growing.able
                    (self._growing if trees else self._computing).order(effect)
                case Forget(session):
                    self._computing.order(effect)
                    self._growing.order(StopGrowing(session))
                case Grow() | StopGrowing():
                    self._growing.order(effect)
                case SendToScheduler(message):
                    self._send(message)
                case CountRefusal(reason):
                    self._metrics.refused.labels(reason).inc()
                case SetThreads(threads):
                    self._computing.set_threads(threads)
                    self._growing.set_threads(threads)
                case KeepShare(bits_s):
                    self._link.keep(bits_s)
                    self._metrics.share.labels(self._name).set(bits_s)
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

    async def _close_on(self, over: asyncio.Event, *blocked: asyncio.Task[None]) -> None:
        """blocked: tasks that may wait for long."""
        await over.wait()
        for task in blocked:
            task.cancel()
        self._arrivals.close()
        self._outbox.close()
        self._computing.wake()
        self._growing.wake()
