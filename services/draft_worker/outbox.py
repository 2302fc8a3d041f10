"""What a device sends: over the link, in order within a session, again when the stream is full or away."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from services.draft_worker.link import DelayLine
from services.draft_worker.metrics import Metrics
from shared.broker.contract import Broker, BrokerAway, BrokerFull
from shared.protocol import wire
from shared.protocol.messages import Draft, Resync
from shared.runtime.ids import Ids

Reply = Draft | Resync
FLUSH_S: Final = 2.0  # longest wait for the last words


class Outbox:
    """Replies to the scheduler. wanted(message): whether one that is late is still worth sending."""

    def __init__(
        self,
        broker: Broker,
        stream: str,
        link_s: float,
        ids: Ids,
        metrics: Metrics,
        wanted: Callable[[Reply], bool],
    ) -> None:
        self._broker, self._stream, self._ids, self._metrics = broker, stream, ids, metrics
        self._wanted = wanted
        self._line: DelayLine[Reply] = DelayLine(link_s)

    def put(self, message: Reply) -> None:
        """Send it as soon as the link allows."""
        self._line.put(message)

    def clear(self) -> None:
        """Drop what was not sent."""
        self._line.clear()

    def close(self) -> None:
        """Let a waiting turn end once all is sent."""
        self._line.close()

    async def turn(self) -> None:
        """Send what is due: sessions side by side. What fails is put back. Raises BrokerAway."""
        by_session: dict[str, list[Reply]] = defaultdict(list)
        for message in await self._line.take():
            by_session[message.session].append(message)
        unsent = await asyncio.gather(*(self._send(messages) for messages in by_session.values()))
        failed = [(message, error) for messages, error in unsent for message in messages if error]
        if not failed:
            return
        self._line.put_back([message for message, _ in failed if self._wanted(message)])
        away = next((error for _, error in failed if isinstance(error, BrokerAway)), None)
        if away is not None:
            raise away
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

    async def _send(self, messages: Sequence[Reply]) -> tuple[Sequence[Reply], Exception | None]:
        """Send one session's messages in order; those that were not, and why."""
        for index, message in enumerate(messages):
            try:
                await self._broker.push(self._stream, message)
            except BrokerFull as error:
                self._metrics.full.inc()
                return messages[index:], error
            except BrokerAway as error:
                return messages[index:], error
            self._metrics.link_bytes.labels("out").inc(len(wire.encode(message)))
        return (), None
