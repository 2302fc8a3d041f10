"""Cancels on their way to the scheduler: each is kept until the broker has taken it."""

import asyncio
from collections import Counter

from shared.broker.contract import Broker, BrokerAway, BrokerFull
from shared.protocol.keys import Keys
from shared.protocol.messages import Cancel, Finish


class Cancels:
    """Sessions that nobody reads any more, and why."""

    def __init__(self, broker: Broker, keys: Keys, counts: Counter[str]) -> None:
        self._broker = broker
        self._stream = keys.submit
        self._counts = counts
        self._waiting: dict[str, Finish] = {}
        self._asked = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, session: str, reason: Finish) -> None:
        """To be sent soon."""
        self._waiting[session] = reason
        self._asked.set()

    def clear(self) -> None:
        """The broker lost its data, and with it the sessions."""
        self._waiting.clear()

    async def turn(self, limit_s: float) -> None:
        """Wait for one, limit_s at most, and send all there are. Raises BrokerAway: they stay."""
        try:
            await asyncio.wait_for(self._asked.wait(), limit_s)
        except TimeoutError:
            return
        await self.send()

    async def send(self) -> None:
        """Send all there are. Raises BrokerAway, also when the stream is full: they stay."""
        self._asked.clear()
        for session, reason in list(self._waiting.items()):
            try:
                await self._broker.push(self._stream, Cancel(session, reason))
            except (BrokerAway, BrokerFull) as error:
                self._asked.set()
                raise BrokerAway(str(error)) from error
            self._waiting.pop(session, None)
            self._counts["cancels"] += 1
