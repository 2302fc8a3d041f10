"""A device's outgoing messages: sent in order over the link, and again when the stream is full or the broker away."""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from services.draft_worker.link import DelayLine, Link
from services.draft_worker.metrics import Metrics
from services.draft_worker.timeline import Timeline
from shared.broker.contract import BrokerAway
from shared.broker.device_broker import DeviceStreams
from shared.protocol import wire
from shared.protocol.messages import Draft, Resync
from shared.runtime.ids import Ids

Reply = Draft | Resync
FLUSH_S: Final = 2.0  # limit for sending the last messages


class _Waiting(NamedTuple):
    """A message that waits for the link, since when, and its bytes."""

    since: float
    message: Reply
    size: int


class Outbox:
    """Replies to the scheduler. is_useful(message): whether an unsent message is still worth sending."""

    def __init__(
        self,
        streams: DeviceStreams,
        stream: str,
        link: Link,
        ids: Ids,
        metrics: Metrics,
        is_useful: Callable[[Reply], bool],
        timeline: Timeline,
    ) -> None:
        self._streams, self._stream, self._ids, self._metrics = streams, stream, ids, metrics
        self._is_useful = is_useful
        self._timeline, self._link = timeline, link
        self._line: DelayLine[_Waiting] = DelayLine(link)

    def put(self, message: Reply) -> None:
        """Queue a message; it is sent as soon as the link allows."""
        size = len(wire.encode(message))
        if isinstance(message, Draft):
            size += self._link.payload_bytes(len(message.tokens))
        self._line.put(_Waiting(asyncio.get_running_loop().time(), message, size), size)

    def clear(self) -> None:
        """Drop all unsent messages."""
        self._line.clear()

    def close(self) -> None:
        """Let a waiting turn return once all messages are sent."""
        self._line.close()

    async def turn(self) -> None:
        """Send all due messages at once. Those that the stream has no room for are put back. Raises BrokerAway."""
        due = await self._line.take()
        sent = 0
        try:
            sent = await self._streams.push_many(self._stream, [item.message for item in due])
        finally:  # after an error it is unknown whether messages arrived; duplicates do no harm
            self._line.put_back([item for item in due[sent:] if self._is_useful(item.message)])
        now = asyncio.get_running_loop().time()
        for item in due[:sent]:
            self._metrics.link_bytes.add(item.size, "out")
            if isinstance(item.message, Draft):
                self._timeline.sent(item.message, item.since, now)
        if sent < len(due):
            self._metrics.full.inc()
            await asyncio.sleep(self._ids.jitter(0.005, 0.02))

    async def flush(self) -> None:
        """Send the remaining messages, within FLUSH_S."""
        self._line.close()
        deadline = asyncio.get_running_loop().time() + FLUSH_S
        while self._line and asyncio.get_running_loop().time() < deadline:
            try:
                await self.turn()
            except BrokerAway:
                return
