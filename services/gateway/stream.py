"""The stream of events of the sessions of one request."""

import asyncio
from collections.abc import AsyncIterator, Callable

from services.gateway.session import Emitted, Event, GatewaySession
from shared.protocol.messages import Finish


class Stream(AsyncIterator[Event]):
    """Events of sessions opened together, in order of arrival, until each has ended or was cut."""

    def __init__(self, count: int, cancel: Callable[[GatewaySession, Finish], None]) -> None:
        self._cancel = cancel
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self._live = set(range(count))
        self.members: list[GatewaySession] = []
        self.put = self._queue.put_nowait

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Event:
        while self._live:
            event = await self._queue.get()
            if event.index not in self._live:
                continue
            if not isinstance(event, Emitted) or event.finish:
                self._live.discard(event.index)
            return event
        raise StopAsyncIteration

    def cut(self, index: int, reason: Finish) -> None:
        """Stop reading one session and cancel it. Idempotent."""
        self._live.discard(index)
        if index < len(self.members):
            self._cancel(self.members[index], reason)

    def close(self) -> None:
        """Cancel all sessions that have not ended. Clearing `members` breaks reference cycles."""
        for session in self.members:
            self.cut(session.index, "cancel")
        self.members.clear()
