"""A simulated process's connection to the broker: an operation is two timers, and wakes its caller once.

MemoryConnection wakes the caller after each hop, so that a fault can befall every await. Here the hops are callbacks of
the loop, while the link's calls cannot fail. Times, effects and errors are the same.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from shared.broker.contract import BrokerAway, Entry
from shared.broker.memory_link import MemoryConnection, data_bytes
from shared.broker.memory_server import MemoryServer
from simulator.link import SimulatedLink

T = TypeVar("T")


class SimulatedConnection(MemoryConnection):
    """The connection of one incarnation."""

    def __init__(self, server: MemoryServer, link: SimulatedLink) -> None:
        super().__init__(server, link)
        self._crossed = link

    async def do(
        self, operation: str, act: Callable[[], T], sent: int = 0, received: Callable[[T], int] | None = None
    ) -> T:
        """See MemoryConnection.do."""
        link = self._crossed
        if link.counts_calls or link.is_down():
            return await super().do(operation, act, sent, received)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        loop.call_later(link.outward.transfer_s(sent), self._arrive, done, act, received)
        return await done

    async def read(
        self, operation: str, new: Callable[[], list[Entry]], streams: Sequence[str], block_s: float
    ) -> list[Entry]:
        """See MemoryConnection.read."""
        link = self._crossed
        if link.counts_calls or link.is_down():
            read = await super().read(operation, new, streams, block_s)
            await link.handle(len(read))
            return read
        loop = asyncio.get_running_loop()
        out_s = link.outward.transfer_s(0)
        reading = _Reading(loop.create_future(), new, streams, loop.time() + out_s + block_s)
        loop.call_later(out_s, self._look, reading)
        return await reading.done

    def _arrive(
        self, done: asyncio.Future[T], act: Callable[[], T], received: Callable[[T], int] | None
    ) -> None:
        """At the broker: take effect, and send the answer."""
        if self._is_over(done):
            return
        try:
            result = self._act(act)
        except Exception as error:  # whatever the broker refuses
            done.set_exception(error)
        else:
            self._answer(done, result, received(result) if received else 0)

    def _look(self, reading: "_Reading") -> None:
        """At the broker: send new entries, or wait for some."""
        if self._is_over(reading.done):
            return
        try:
            entries = self._act(reading.new)
        except Exception as error:  # whatever the broker refuses
            reading.done.set_exception(error)
            return
        loop = asyncio.get_running_loop()
        if entries or loop.time() >= reading.until:
            handling_s = len(entries) * self._crossed.message_s
            self._answer(reading.done, entries, data_bytes(entries), handling_s)
        else:
            reading.wait(self.server, loop, self._look)

    def _answer(self, done: asyncio.Future[T], result: T, size: int, handling_s: float = 0.0) -> None:
        asyncio.get_running_loop().call_later(
            self._crossed.inward.transfer_s(size) + handling_s, self._return, done, result
        )

    def _return(self, done: asyncio.Future[T], result: T) -> None:
        if not self._crossed.incarnation.alive:
            done.cancel()
        elif not done.done():
            done.set_result(result)

    def _is_over(self, done: asyncio.Future[Any]) -> bool:
        """Whether the caller has been cancelled or died, or the broker is out of reach, which the caller is told."""
        if done.done():
            return True
        if not self._crossed.incarnation.alive:
            done.cancel()
        elif self._crossed.is_down():
            done.set_exception(BrokerAway("cut before"))
        return done.done()


class _Reading:
    """A read at the broker. until: when it ends without entries. A waiter of the server while there are none."""

    __slots__ = ("_look", "_loop", "_server", "_timer", "done", "new", "streams", "until")

    def __init__(
        self,
        done: asyncio.Future[list[Entry]],
        new: Callable[[], list[Entry]],
        streams: Sequence[str],
        until: float,
    ) -> None:
        self.done, self.new, self.streams, self.until = done, new, streams, until
        self._timer: asyncio.TimerHandle | None = None

    def wait(
        self, server: MemoryServer, loop: asyncio.AbstractEventLoop, look: Callable[["_Reading"], None]
    ) -> None:
        """Look again when an entry has come or the time is over."""
        self._server, self._loop, self._look = server, loop, look
        self._timer = loop.call_at(self.until, self.wake)
        server.add_waiter(self.streams, self)

    def wake(self) -> None:
        """See Waiter.wake."""
        self._stop_waiting()
        self._loop.call_soon(self._look, self)

    def fail(self, error: Exception) -> None:
        """See Waiter.fail."""
        self._stop_waiting()
        if not self.done.done():
            self.done.set_exception(error)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._server.drop_waiter(self.streams, self)
