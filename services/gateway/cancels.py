"""Cancel messages to the scheduler, each kept until the broker has accepted it."""

import asyncio
from collections import Counter

from shared.broker.contract import BrokerAway, BrokerFull, Streams
from shared.protocol.keys import Keys
from shared.protocol.messages import Cancel, Finish


class Cancels:
    """Pending cancels: sessions without a reader, and the reasons."""

    def __init__(self, streams: Streams, keys: Keys, counts: Counter[str]) -> None:
        self._streams = streams
        self._stream = keys.submit
        self._counts = counts
        self._waiting: dict[str, Finish] = {}
        self._requested = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, session: str, reason: Finish) -> None:
        """Queue a cancel."""
        self._waiting[session] = reason
        self._requested.set()

    def clear(self) -> None:
        """Drop all cancels: the broker lost its data, and with it the sessions."""
        self._waiting.clear()

    async def turn(self, limit_s: float) -> None:
        """Wait for a cancel, limit_s at most, and send all. Raises BrokerAway; unsent ones stay queued."""
        try:
            await asyncio.wait_for(self._requested.wait(), limit_s)
        except TimeoutError:
            return
        await self.send()

    async def send(self) -> None:
        """Send all cancels. Raises BrokerAway, also when the stream is full; unsent ones stay queued."""
        self._requested.clear()
        for session, reason in list(self._waiting.items()):
            try:
                await self._streams.push(self._stream, Cancel(session, reason))
            except (BrokerAway, BrokerFull) as error:
                self._requested.set()
                raise BrokerAway(str(error)) from error
            self._waiting.pop(session, None)
            self._counts["cancels"] += 1
