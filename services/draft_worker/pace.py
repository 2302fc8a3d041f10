"""Sleeps through decodes whose times are known, in one sleep: for modelled drafters."""

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


class Pace:
    """One sleep at a time. `hurry` ends it after the decode under way, as an order waits for a real one's end."""

    def __init__(self) -> None:
        self._ends: Sequence[float] = ()
        self._sleeping: asyncio.Future[int] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def sleep(self, costs_s: Sequence[float]) -> int:
        """Sleep through decodes of these durations, at least one. Returns how many: all, unless hurried."""
        loop = asyncio.get_running_loop()
        self._ends = list(accumulate(costs_s, initial=loop.time()))[1:]
        self._sleeping = loop.create_future()
        self._set_timer(len(self._ends))
        try:
            return await self._sleeping
        finally:
            self._sleeping = None
            if self._timer is not None:
                self._timer.cancel()

    def hurry(self) -> None:
        """End the sleep with the decode under way."""
        if self._sleeping is not None and self._timer is not None and not self._sleeping.done():
            now = asyncio.get_running_loop().time()
            self._timer.cancel()
            self._set_timer(min(bisect_left(self._ends, now) + 1, len(self._ends)))

    def _set_timer(self, decodes: int) -> None:
        """Wake up after so many decodes."""
        self._timer = asyncio.get_running_loop().call_at(self._ends[decodes - 1], self._wake, decodes)

    def _wake(self, decodes: int) -> None:
        if self._sleeping is not None and not self._sleeping.done():
            self._sleeping.set_result(decodes)
