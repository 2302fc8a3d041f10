"""A simulated process's connection to the broker: an operation is two timers, and wakes its caller once.

MemoryConnection wakes the caller after each hop, so that a fault can befall every await. Here the hops are callbacks of
the loop, while the link's calls cannot fail. Times, effects and errors are the same.
"""

import asyncio
from collections.abc import Callable, Sequence
from math import inf
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
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[_Reading, None] = {}
        self._look_at = inf  # when the next of them may be over

    async def do(
        self, operation: str, act: Callable[[], T], sent: int = 0, received: Callable[[T], int] | None = None
    ) -> T:
        """See MemoryConnection.do."""
        link = self._crossed
        if link.counts_calls or link.is_down():
            return await super().do(operation, act, sent, received)
        done: asyncio.Future[T] = self._loop.create_future()
        self._loop.call_later(link.outward.transfer_s(sent), self._arrive, done, act, received)
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
        out_s = link.outward.transfer_s(0)
        done: asyncio.Future[list[Entry]] = self._loop.create_future()
        reading = _Reading(self, done, new, streams, self._loop.time() + out_s + block_s)
        self._loop.call_later(out_s, self.look, reading)
        return await done

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
            self._answer(done, result, received)

    def look(self, reading: "_Reading") -> None:
        """At the broker: send new entries, or wait for some."""
        if self._is_over(reading.done):
            return
        try:
            entries = self._act(reading.new)
        except Exception as error:  # whatever the broker refuses
            reading.done.set_exception(error)
            return
        if entries or self._loop.time() >= reading.until:
            self._answer(reading.done, entries, data_bytes, len(entries) * self._crossed.message_s)
        else:
            self._wait(reading)

    # --- waiting reads ------------------------------------------------------------------------------
    def _wait(self, reading: "_Reading") -> None:
        """Look again when an entry has come or the time is over, for which one timer serves many reads."""
        self._waiting[reading] = None
        self.server.add_waiter(reading.streams, reading)
        if reading.until < self._look_at:
            self._look_at = reading.until
            self._loop.call_at(reading.until, self._end_waits, reading.until)

    def _end_waits(self, at: float) -> None:
        """Wake the reads whose time is over. at: the time of this timer, which an earlier one may have replaced."""
        if at != self._look_at:
            return
        now = self._loop.time()
        for reading in [reading for reading in self._waiting if reading.until <= now]:
            reading.wake()
        self._look_at = min((reading.until for reading in self._waiting), default=inf)
        if self._look_at < inf:
            self._loop.call_at(self._look_at, self._end_waits, self._look_at)

    def end_wait(self, reading: "_Reading") -> None:
        """Stop waiting; the timer stays for the next read."""
        self._waiting.pop(reading, None)
        self.server.drop_waiter(reading.streams, reading)

    # --- answers ------------------------------------------------------------------------------------
    def _answer(
        self,
        done: asyncio.Future[T],
        result: T,
        received: Callable[[T], int] | None,
        handling_s: float = 0.0,
    ) -> None:
        inward = self._crossed.inward
        size = received(result) if received and not inward.is_fixed else 0
        self._loop.call_later(inward.transfer_s(size) + handling_s, self._return, done, result)

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
            return True
        if self._crossed.is_down():
            done.set_exception(BrokerAway("cut before"))
            return True
        return False


class _Reading:
    """A read at the broker. until: when it ends without entries. A waiter of the server while there are none."""

    __slots__ = ("_connection", "done", "new", "streams", "until")

    def __init__(
        self,
        connection: SimulatedConnection,
        done: asyncio.Future[list[Entry]],
        new: Callable[[], list[Entry]],
        streams: Sequence[str],
        until: float,
    ) -> None:
        self._connection = connection
        self.done, self.new, self.streams, self.until = done, new, streams, until

    def wake(self) -> None:
        """See Waiter.wake."""
        self._connection.end_wait(self)
        asyncio.get_running_loop().call_soon(self._connection.look, self)

    def fail(self, error: Exception) -> None:
        """See Waiter.fail."""
        self._connection.end_wait(self)
        if not self.done.done():
            self.done.set_exception(error)
