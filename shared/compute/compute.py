"""Runs blocking compute: on a thread in production, inline after a modelled delay in simulation.

The only module that creates threads; services never do so themselves.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

T = TypeVar("T")
MAX_IN_A_ROW: Final = 16  # calls of InlineCompute without a wait: a loop of such calls must let others run


class Compute(Protocol):
    """Runs one blocking function at a time, in order of the calls."""

    async def run(self, fn: Callable[[], T], cost_s: float = 0.0) -> T:
        """The result of fn(). cost_s: modelled duration of fn; 0.0 for real work."""
        ...

    def close(self) -> None:
        """Let the current function end and accept no more."""
        ...


class ThreadCompute:
    """Runs functions on one thread, so that the event loop stays responsive. A modelled cost is slept on the loop.

    nice: niceness of the thread and of those it starts. On Linux the loop's own thread keeps its priority, since a
    message that waits for a core would make this process look slow or dead.
    """

    def __init__(self, name: str, nice: int = 0) -> None:
        self._pool = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix=name, initializer=os.nice, initargs=(nice,)
        )
        self._turn = asyncio.Lock()

    async def run(self, fn: Callable[[], T], cost_s: float = 0.0) -> T:
        """Run fn; a modelled cost is slept first."""
        async with self._turn:
            if cost_s > 0:
                await asyncio.sleep(cost_s)
                return fn()
            return await asyncio.get_running_loop().run_in_executor(self._pool, fn)

    def close(self) -> None:
        """Let the current function end and run no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class InlineCompute:
    """Runs functions inline, one at a time, after sleeping the modelled cost on the running loop (virtual or real)."""

    def __init__(self) -> None:
        self._last: asyncio.Future[None] | None = None  # done when the latest call is over
        self._in_a_row = 0  # calls without a wait

    async def run(self, fn: Callable[[], T], cost_s: float = 0.0) -> T:
        """Run fn; a modelled cost is slept first."""
        before = self._last if self._last is not None and not self._last.done() else None
        if before is None and cost_s <= 0:
            self._in_a_row = (self._in_a_row + 1) % MAX_IN_A_ROW
            if not self._in_a_row:
                await asyncio.sleep(0)
            return fn()
        over = self._last = asyncio.get_running_loop().create_future()
        try:
            if before is not None:
                await asyncio.wait([before])
            if cost_s > 0:
                await asyncio.sleep(cost_s)
            return fn()
        finally:
            if before is None or before.done():
                over.set_result(None)
            else:  # cancelled before its turn
                before.add_done_callback(lambda _: over.set_result(None))

    def close(self) -> None:
        """Nothing to close."""
