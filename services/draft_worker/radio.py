"""A cell on the running loop: all its devices are emulated in this process, and transfer through it."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from math import inf

from shared.cells.cell import Arrival, Cell, Direction


class Radio:
    """Tells a cell the time and calls back as its transfers end.

    A callback runs in the context of the code that began the transfer, and the timer in none, so that in a simulation,
    where contexts say to which process a callback belongs, it outlives each device.
    """

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._waiting: dict[tuple[str, Direction], deque[tuple[Callable[[], None], Context]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf

    def station(self, name: str, eta: float) -> "CellStation":
        """A device's place. eta: see Cell.join."""
        return CellStation(self, name, eta)

    def time(self) -> float:
        """The loop's time, by no process's own clock."""
        return Context().run(asyncio.get_running_loop().time)

    def join(self, name: str, eta: float) -> None:
        """See Cell.join."""
        self.cell.join(name, eta, self.time())
        self._forget(name)

    def leave(self, name: str) -> None:
        """See Cell.leave."""
        self.cell.leave(name, self.time())
        self._forget(name)

    def keep(self, name: str, width_hz: float) -> None:
        """See Cell.keep, in a cell that enforces shares; what is under way goes on at its new rate."""
        if self.cell.sharing == "shares":
            self.cell.keep(name, width_hz, self.time())
            self._go_on()

    def send(self, name: str, direction: Direction, size: int, carried: Callable[[], None]) -> None:
        """Call `carried` once a member's `size` bytes, and what it sent before, are transferred.

        What is sent by, or to, a device that has left is lost.
        """
        if name not in self.cell:
            return
        self.cell.send(name, direction, 8.0 * size, self.time())
        self._waiting.setdefault((name, direction), deque()).append((carried, copy_context()))
        self._go_on()

    def drop(self, name: str, direction: Direction) -> None:
        """See Cell.drop."""
        self.cell.drop(name, direction, self.time())
        self._forget(name, direction)

    def _forget(self, name: str, *directions: Direction) -> None:
        """Drop the callbacks of transfers that were dropped; those that ended before are called."""
        self._call(self.cell.take(self.time()))
        for direction in directions or ("up", "down"):
            self._waiting.pop((name, direction), None)
        self._go_on()

    def _turn(self) -> None:
        self._due = inf
        self._go_on()

    def _go_on(self) -> None:
        """Call back for what has ended, and wake up when the next transfer will end."""
        self._call(self.cell.take(self.time()))
        if (due := self.cell.next_at()) != self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._due, self._timer = due, None
            if due < inf:
                self._timer = Context().run(asyncio.get_running_loop().call_at, due, self._turn)

    def _call(self, arrived: list[Arrival]) -> None:
        loop = asyncio.get_running_loop()
        for name, direction, _ in arrived:
            carried, context = self._waiting[name, direction].popleft()
            loop.call_soon(carried, context=context)


class CellStation:
    """A Station."""

    def __init__(self, radio: Radio, name: str, eta: float) -> None:
        self._radio, self._name, self._eta = radio, name, eta

    def join(self) -> None:
        """See Station.join."""
        self._radio.join(self._name, self._eta)

    def leave(self) -> None:
        """See Station.leave."""
        self._radio.leave(self._name)

    def keep(self, bits_s: float) -> None:
        """See Station.keep."""
        self._radio.keep(self._name, bits_s / self._eta)

    def send(self, direction: Direction, size: int, carried: Callable[[], None]) -> None:
        """See Station.send."""
        self._radio.send(self._name, direction, size, carried)

    def drop(self, direction: Direction) -> None:
        """See Station.drop."""
        self._radio.drop(self._name, direction)
