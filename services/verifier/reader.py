"""The verifier's reader: decodes messages one ahead of the server and prefetches the session logs they need."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from services.verifier.metrics import Metrics
from services.verifier.retry import Retry
from services.verifier.sessions import VerifiedSessions
from shared.broker.contract import BrokerAway, Entry, Streams
from shared.protocol import wire
from shared.protocol.messages import Close, StagedBatch, Tune
from shared.protocol.session import SessionLog

READ_COUNT: Final = 16
BLOCK_S: Final = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Inbound:
    """A decoded message, and the logs of its sessions that were unknown when it was read."""

    entry: Entry
    message: StagedBatch | Close | Tune
    read_at: float
    logs: Mapping[str, SessionLog] = field(default_factory=dict)


class Reader:
    """Reads one staged stream. `next` returns messages in order; call `done` when one is answered."""

    def __init__(
        self,
        stream: str,
        consumer: str,
        streams: Streams,
        sessions: VerifiedSessions,
        retry: Retry,
        metrics: Metrics,
    ) -> None:
        self._stream = stream
        self._consumer = consumer
        self._streams = streams
        self._sessions = sessions
        self._retry = retry
        self._metrics = metrics
        self._inbound: asyncio.Queue[Inbound] = asyncio.Queue(maxsize=1)
        self._in_hand: set[str] = set()
        self._behind = True  # read pending entries before new ones

    async def next(self, wait_s: float) -> Inbound | None:
        """The next message; None when none arrives within wait_s."""
        try:
            async with asyncio.timeout(wait_s):
                return await self._inbound.get()
        except TimeoutError:
            return None

    def done(self, inbound: Inbound) -> None:
        """End a message: it is acknowledged, or it stays pending and may be read again."""
        self._in_hand.discard(inbound.entry.id)

    def reread_pending(self) -> None:
        """Read pending entries next, since a message was not acknowledged."""
        self._behind = True

    async def turn(self) -> None:
        """Read pending entries, or else new ones."""
        try:
            if self._behind:
                pending = await self._streams.read_pending([self._stream], self._consumer, READ_COUNT)
                entries = [entry for entry in pending if entry.id not in self._in_hand]
                self._behind = (
                    len(pending) == READ_COUNT
                )  # no further read of pending entries: each read counts as a delivery
            else:
                entries = await self._streams.read_group([self._stream], self._consumer, READ_COUNT, BLOCK_S)
            for entry in entries:
                await self._enqueue(entry)
        except BrokerAway:
            self._behind = True  # the lost answer may have held entries, which are pending now
            raise

    async def refuse(self, entry: Entry, reason: str, why: str) -> None:
        """Dead-letter an entry and count it."""
        log.warning("message refused", reason=reason, why=why, entry=entry.id)
        self._metrics.refused.labels(reason).inc()
        await self._retry(partial(self._streams.dead_letter, entry, f"{reason}: {why}"))

    async def _enqueue(self, entry: Entry) -> None:
        """Decode an entry and queue it, or refuse it."""
        self._metrics.link_bytes.inc(len(entry.data))
        try:
            message = wire.decode(entry.data)
        except wire.WireError as error:
            await self.refuse(entry, "undecodable", str(error))
            return
        if not isinstance(message, StagedBatch | Close | Tune):
            await self.refuse(entry, "unexpected", f"{type(message).__name__} is not for a verifier")
            return
        now = asyncio.get_running_loop().time()
        rows = message.rows if isinstance(message, StagedBatch) else ()
        logs = await self._sessions.prefetch(rows, self._retry)
        self._in_hand.add(entry.id)
        await self._inbound.put(Inbound(entry, message, now, logs))
