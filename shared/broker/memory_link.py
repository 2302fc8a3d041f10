"""One process's connection to the in-memory broker: every operation crosses its link, and has its effect at once."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from shared.broker.contract import BrokerAway, Entry
from shared.broker.memory_server import MemoryServer

T = TypeVar("T")


class BrokerLink(Protocol):
    """The link between a process and the broker: delay, loss, faults. One per connection."""

    async def before(self, operation: str, sent: int) -> None:
        """Called before the operation, with the bytes of messages sent. BrokerAway: it has no effect."""
        ...

    async def after(self, operation: str, received: int) -> None:
        """Called after the operation, with the bytes of messages received. BrokerAway: its effect stands."""
        ...

    def copies(self, stream: str, data: bytes) -> int:
        """How often a message that this connection adds arrives: 1, 0 (lost) or more (repeated)."""
        ...


class Direct:
    """A link without delay or faults. Every operation still lets other tasks run."""

    async def before(self, operation: str, sent: int) -> None:
        """Let other tasks run."""
        await asyncio.sleep(0)

    async def after(self, operation: str, received: int) -> None:
        """No delay."""

    def copies(self, stream: str, data: bytes) -> int:
        """Every message arrives once."""
        return 1


class MemoryConnection:
    """Runs operations on a server, over a link."""

    def __init__(self, server: MemoryServer, link: BrokerLink) -> None:
        self.server = server
        self._link = link
        self._closed = False

    def close(self) -> None:
        """From here on every operation raises BrokerAway."""
        self._closed = True

    async def do(
        self, operation: str, act: Callable[[], T], sent: int = 0, received: Callable[[T], int] | None = None
    ) -> T:
        """One operation over the link. `act` is its effect and atomic."""
        await self._link.before(operation, sent)
        result = self._act(act)
        await self._link.after(operation, received(result) if received else 0)
        return result

    async def read(
        self, operation: str, new: Callable[[], list[Entry]], streams: Sequence[str], block_s: float
    ) -> list[Entry]:
        """A read that waits until `new` returns entries, block_s at most."""
        await self._link.before(operation, 0)
        loop = asyncio.get_running_loop()
        until = loop.time() + block_s
        entries = self._act(new)
        while not entries and (left_s := until - loop.time()) > 0:
            await self.server.wait(streams, left_s)
            entries = self._act(new)
        await self._link.after(operation, data_bytes(entries))
        return entries

    def _act(self, act: Callable[[], T]) -> T:
        if self._closed:
            raise BrokerAway("this connection was closed")
        self.server.purge()
        return act()


def data_bytes(entries: Sequence[Entry]) -> int:
    """Bytes of the entries' messages."""
    return sum(len(entry.data) for entry in entries)
