"""What a device sends: over the link, in order within a session, again when the stream is full or away."""

import asyncio
from collections.abc import Callable
from math import isfinite
from typing import Final

from services.draft_worker.link import DelayLine, Link
from services.draft_worker.metrics import Metrics
from services.draft_worker.timeline import Timeline
from shared.broker.contract import BrokerAway
from shared.broker.device_broker import DeviceBroker
from shared.protocol import wire
from shared.protocol.messages import Draft, Resync
from shared.runtime.ids import Ids

Reply = Draft | Resync
FLUSH_S: Final = 2.0  # longest wait for the last words


class Outbox:
    """Replies to the scheduler. wanted(message): whether one that is late is still worth sending."""

    def __init__(
        self,
        broker: DeviceBroker,
        stream: str,
        link: Link,
        ids: Ids,
        metrics: Metrics,
        wanted: Callable[[Reply], bool],
        timeline: Timeline,
    ) -> None:
        self._broker, self._stream, self._ids, self._metrics = broker, stream, ids, metrics
        self._wanted = wanted
        self._timeline = timeline
        self._line: DelayLine[tuple[float, Reply]] = DelayLine(link)  # (put when, what)
        self._sized = isfinite(link.bytes_per_s)

    def put(self, message: Reply) -> None:
        """Send it as soon as the link allows."""
        size = len(wire.encode(message)) if self._sized else 0
        self._line.put((asyncio.get_running_loop().time(), message), size)

    def clear(self) -> None:
        """Drop what was not sent."""
        self._line.clear()

    def close(self) -> None:
        """Let a waiting turn end once all is sent."""
        self._line.close()

    async def turn(self) -> None:
        """Send what is due, all at once. What the stream has no room for is put back. Raises BrokerAway."""
        due = await self._line.take()
        sent = 0
        try:
            sent = await self._broker.push_many(self._stream, [message for _, message in due])
        finally:  # of what was lost on its way it is not known whether it arrived; to send it twice does no harm
            self._line.put_back([item for item in due[sent:] if self._wanted(item[1])])
        now = asyncio.get_running_loop().time()
        for since, message in due[:sent]:
            self._metrics.link_bytes.labels("out").inc(len(wire.encode(message)))
            if isinstance(message, Draft):
                self._timeline.sent(message, since, now)
        if sent < len(due):
            self._metrics.full.inc()
            await asyncio.sleep(self._ids.jitter(0.005, 0.02))

    async def flush(self) -> None:
        """Send the rest, for FLUSH_S at most."""
        self._line.close()
        deadline = asyncio.get_running_loop().time() + FLUSH_S
        while self._line and asyncio.get_running_loop().time() < deadline:
            try:
                await self.turn()
            except BrokerAway:
                return
