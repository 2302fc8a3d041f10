"""An event loop whose clock jumps to the next timer: hours of services in seconds, and the same in every run.

Nothing may wait for the outside world: no sockets, threads or processes. When no callback is ready and no timer is
set, nothing will ever happen, and the run ends with `Deadlock`.

The order of callbacks is asyncio's; timers of one instant run in the order in which they were set. The loop's inner
part is written anew because a simulation spends a sixth of its time there: without selectors, debugging and threads
it is half as long.
"""

import asyncio
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")
SHOWN: Final = 20  # tasks that a deadlock names
MAX_DEAD_TIMERS: Final = 1000  # cancelled timers that are not worth a clean-up


class Deadlock(RuntimeError):
    """All tasks wait for each other; the text names the tasks and where they wait."""


class _Clock(selectors.SelectSelector):
    """A selector that moves the clock where others wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Deadlock("no timer is set and no callback is ready" + waiting_tasks())
        if timeout > 0:
            self.now += timeout
        return []


class _Callback(asyncio.Handle):
    """A handle without debugging."""

    __slots__ = ()

    def __init__(
        self, callback: Any, args: Any, loop: asyncio.AbstractEventLoop, context: Context | None
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled, self._repr = False, None


class _Timer(asyncio.TimerHandle):
    """A timer's handle without debugging."""

    __slots__ = ()

    def __init__(
        self, when: float, callback: Any, args: Any, loop: asyncio.AbstractEventLoop, context: Context | None
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop, self._callback, self._args, self._when = loop, callback, args, when
        self._cancelled, self._repr = False, None
        self._scheduled = True  # so that its cancellation is reported


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a virtual clock."""

    # Fields of BaseEventLoop, the same from Python 3.11 to 3.14.
    _ready: deque[Any]
    _stopping: bool

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)
        self._timers: list[tuple[float, int, Any]] = []  # a heap: time, number, handle
        self._numbers = count()
        self._dead_timers = 0

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._clock.now

    def true_time(self) -> float:
        """Virtual seconds since the loop was made, whoever asks."""
        return self._clock.now

    def call_soon(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        """See AbstractEventLoop.call_soon."""
        handle = _Callback(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See AbstractEventLoop.call_later."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See AbstractEventLoop.call_at."""
        timer = _Timer(when, callback, args, self, context)
        heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Count a cancelled timer, and remove all of them once they outnumber the others."""
        if not handle._scheduled:  # type: ignore[attr-defined]  # it has run
            return
        self._dead_timers += 1
        if self._dead_timers > MAX_DEAD_TIMERS and 2 * self._dead_timers > len(self._timers):
            self._timers = [entry for entry in self._timers if not entry[2].cancelled()]
            heapify(self._timers)
            self._dead_timers = 0

    def _run_once(self) -> None:
        """Run what is ready, after a jump to the next timer if nothing is. Raises Deadlock."""
        timers, ready = self._timers, self._ready
        if not ready and not self._stopping:
            while timers and timers[0][2]._cancelled:
                heappop(timers)
                self._dead_timers -= 1
            if not timers:
                self._clock.select(None)
            self._clock.now = max(self._clock.now, timers[0][0])
        while timers and timers[0][0] <= self._clock.now:
            timer = heappop(timers)[2]
            timer._scheduled = False
            ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                try:
                    handle._context.run(handle._callback, *handle._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # as Handle._run, which takes longer
                    self.call_exception_handler(
                        {"message": f"Exception in callback {handle}", "exception": error, "handle": handle}
                    )


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """asyncio.run on a virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def waiting_tasks() -> str:
    """One line for each waiting task: its name and the innermost line of code that waits."""
    lines = []
    for task in sorted(asyncio.all_tasks(asyncio.get_event_loop()), key=lambda task: task.get_name()):
        frames = task.get_stack(limit=1)
        where = f"{frames[0].f_code.co_qualname}, line {frames[0].f_lineno}" if frames else "nowhere"
        lines.append(f"\n  {task.get_name()} waits in {where}")
    more = f"\n  and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return ":" + "".join(lines[:SHOWN]) + more if lines else ""
