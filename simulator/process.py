"""A service as a process: it lives, dies with all its tasks, and is started again."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, Final, TypeVar

from simulator.process_clock import TRUE, ProcessClock

T = TypeVar("T")

RESTART_S: Final = 0.3

Run = Callable[[asyncio.Event], Awaitable[None]]

_incarnation: ContextVar["Incarnation | None"] = ContextVar("incarnation", default=None)


class Incarnation:
    """One life of a process: its tasks. After its death none of its calls has an effect or returns.

    tasks: in order, since the order of sets is another one in every Python process. stop: set to let it end as SIGTERM
    would. clock: its own, in a SeededLoop; a plain virtual loop has one for all.
    """

    def __init__(self, clock: ProcessClock = TRUE) -> None:
        self.alive = True
        self.stop = asyncio.Event()
        self.clock = clock
        self.tasks: dict[asyncio.Task[Any], None] = {}

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` as a task of this life, as a request that the process serves; it dies with the process."""
        token = _incarnation.set(self)
        try:
            return asyncio.create_task(work)
        finally:
            _incarnation.reset(token)

    def kill(self) -> None:
        """End it as SIGKILL would: no task can clean up anything outside the process."""
        self.alive = False
        for task in tuple(self.tasks):
            task.cancel()

    async def die(self) -> None:
        """Kill the incarnation from within one of its own tasks."""
        self.kill()
        await asyncio.sleep(0)
        raise asyncio.CancelledError


class Process:
    """A service that is started again, restart_s after each end of a life. start: makes the service of one life.

    returns: False = it stays dead. errors: what lives raised that were not killed.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[Incarnation], Run],
        restart_s: float = RESTART_S,
        delay_s: float = 0.0,
        clock: ProcessClock = TRUE,
    ) -> None:
        """delay_s: from the start of the simulation to the first life."""
        self.name = name
        self.stop = asyncio.Event()
        self.lives = 0
        self.returns = True
        self.errors: list[BaseException] = []
        self.incarnation = Incarnation()
        self.clock = clock
        self.restart_s = restart_s
        self._start, self._delay_s = start, delay_s

    def end(self) -> None:
        """Let the current life end in order, and begin no other."""
        self.stop.set()
        self.incarnation.stop.set()

    async def live(self) -> None:
        """One incarnation after another, until stop is set."""
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        while self.returns and not self.stop.is_set():
            self.lives += 1
            self.incarnation = Incarnation(self.clock)
            _incarnation.set(self.incarnation)
            task = asyncio.create_task(self._life(self.incarnation), name=self.name)
            _incarnation.set(None)
            await asyncio.wait([task])
            await self._remove(self.incarnation)
            if self.incarnation.alive and not task.cancelled() and (error := task.exception()) is not None:
                self.errors.append(error)
                return
            if self.returns and not self.stop.is_set():
                await asyncio.sleep(self.restart_s)

    async def _life(self, incarnation: Incarnation) -> None:
        await self._start(incarnation)(incarnation.stop)

    async def _remove(self, incarnation: Incarnation) -> None:
        while left := [task for task in incarnation.tasks if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.sleep(0)


def current_incarnation() -> Incarnation | None:
    """The life to which the running code belongs; None outside of all processes."""
    return _incarnation.get()


def owner_of(context: Context) -> Incarnation | None:
    """The life to which a callback with this context belongs."""
    return context.get(_incarnation)


def owned_task(
    loop: asyncio.AbstractEventLoop, coro: Any, context: Any = None, **kwargs: Any
) -> asyncio.Task[Any]:
    """A task factory: each task belongs to the incarnation that creates it, which can be killed as a whole."""
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, context=context, **kwargs)
    owner = _incarnation.get()
    if owner is not None:
        owner.tasks[task] = None
        task.add_done_callback(lambda done: owner.tasks.pop(done, None))
    return task
