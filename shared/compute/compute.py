"""Where compute runs: a thread live, inline after a modelled delay when simulated.

The only place with threads. Services never create one themselves.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class Compute(Protocol):
    """Runs one blocking function at a time, in the order asked for."""

    async def run(self, fn: Callable[[], T], cost_s: float = 0.0) -> T:
        """The result of fn(). cost_s: how long a modelled fn is to take; real work takes what it takes."""
        ...

    def close(self) -> None:
        """Let the current function end and take no more."""
        ...


class ThreadCompute:
    """A thread of its own, so that the event loop reads on meanwhile. A modelled cost is slept on the loop.

    nice: how far the thread, and those it starts, stand back for other processes. On Linux the loop does not: a
    message that waits for a core behind others' compute would make this process look slow, or gone.
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
    """No thread: sleeps the modelled cost on the running loop (virtual or real), then calls. One at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, fn: Callable[[], T], cost_s: float = 0.0) -> T:
        """Run fn; a modelled cost is slept first."""
        async with self._turn:
            await asyncio.sleep(max(cost_s, 0.0))
            return fn()

    def close(self) -> None:
        """Nothing to close."""
