"""The pieces that have come back to rank 0 and were not received yet."""

import asyncio
from collections import deque
from collections.abc import Sequence

from simulator.pipeline.ring import Row


class Returned:
    """A ring's end at rank 0, whatever it is made of: see ring.Ring for `ready`, `receive` and `wait`."""

    def __init__(self) -> None:
        self._pieces: deque[Sequence[Row]] = deque()
        self._arrival = asyncio.Event()

    def add(self, rows: Sequence[Row]) -> None:
        """A piece has arrived."""
        self._pieces.append(rows)
        self._arrival.set()

    def take(self) -> Sequence[Row] | None:
        """The oldest piece; None without one."""
        return self._pieces.popleft() if self._pieces else None

    def clear(self) -> None:
        """Forget all."""
        self._pieces.clear()

    def ready(self) -> bool:
        """See Ring.ready."""
        return bool(self._pieces)

    async def receive(self) -> Sequence[Row]:
        """See Ring.receive."""
        while not self._pieces:
            self._arrival.clear()
            await self._arrival.wait()
        return self._pieces.popleft()

    async def wait(self, until: float) -> None:
        """See Ring.wait."""
        if self._pieces:
            return
        self._arrival.clear()
        loop = asyncio.get_running_loop()
        timer = loop.call_at(until, self._arrival.set) if until < float("inf") else None
        await self._arrival.wait()
        if timer is not None:
            timer.cancel()
