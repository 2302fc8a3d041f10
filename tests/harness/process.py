"""A service as a process: it lives, dies with all its tasks, and is started again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

from tests.harness.faults import Incarnation, Line

RESTART_S: Final = 0.3

_incarnation: ContextVar[Incarnation | None] = ContextVar("incarnation", default=None)


class Process:
    """A service that is started again when it dies."""

    def __init__(
        self, line: Line, start: Callable[[Incarnation], Callable[[asyncio.Event], Awaitable[None]]]
    ) -> None:
        self.line = line
        self.stop = asyncio.Event()
        self.lives = 0
        self.returns = True  # after its death
        self.errors: list[BaseException] = []
        self._start = start
        self.incarnation = Incarnation(line)

    async def live(self) -> None:
        """One incarnation after another, until stop is set."""
        while self.returns and not self.stop.is_set():
            self.lives += 1
            self.incarnation = Incarnation(self.line)
            _incarnation.set(self.incarnation)
            task = asyncio.create_task(self._life(self.incarnation))
            _incarnation.set(None)
            await asyncio.wait([task])
            await self._remove(self.incarnation)
            if self.incarnation.alive and not task.cancelled() and (error := task.exception()) is not None:
                self.errors.append(error)
                return
            if self.returns and not self.stop.is_set():
                await asyncio.sleep(RESTART_S)

    async def _life(self, incarnation: Incarnation) -> None:
        await self._start(incarnation)(self.stop)

    async def _remove(self, incarnation: Incarnation) -> None:
        while left := [task for task in incarnation.tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.sleep(0)


def owned_task(loop: asyncio.AbstractEventLoop, coro: Any, context: Any = None) -> asyncio.Task[Any]:
    """Every task belongs to the incarnation that made it, so that it can be killed."""
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, context=context)
    owner = _incarnation.get()
    if owner is not None:
        owner.tasks.add(task)
        task.add_done_callback(owner.tasks.discard)
    return task
