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
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")
SHOWN: Final = 20  # tasks that a deadlock names
MAX_DEAD_TIMERS: Final = 1000  # cancelled timers that are not worth a clean-up


class Deadlock(RuntimeError):
    """All tasks wait for each other; the text names the tasks and where they wait."""


class _Callback(list[Any]):
    """What runs next, as [_, _, function, arguments, context]. A list is made quicker than asyncio's handle.

    The function is None once it was called or cancelled.
    """

    __slots__ = ()

    def cancel(self) -> None:
        """See asyncio.Handle."""
        self[2] = None

    def cancelled(self) -> bool:
        """See asyncio.Handle."""
        return self[2] is None


class _Timer(_Callback):
    """A timer, as [time, number, function, arguments, context, loop]: in this order timers are compared."""

    __slots__ = ()

    def cancel(self) -> None:
        """See asyncio.Handle."""
        if self[2] is not None:
            self[2] = self[3] = self[4] = None  # what it holds may be large, and its time far away
            self[5]._timer_died()

    def when(self) -> float:
        """See asyncio.TimerHandle."""
        return float(self[0])


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a virtual clock."""

    # Fields of BaseEventLoop, the same from Python 3.11 to 3.14.
    _ready: deque[Any]
    _stopping: bool

    get_debug = staticmethod(bool)  # never; each future asks, and calls of Python take longer

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())  # which is never asked
        self._now = 0.0
        self._timers: list[Any] = []  # a heap
        self._numbers = count()
        self._dead_timers = 0
        self.create_future = partial(asyncio.Future, loop=self)  # type: ignore[method-assign]  # likewise

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def true_time(self) -> float:
        """Virtual seconds since the loop was made, whoever asks."""
        return self._now

    def call_soon(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        """See AbstractEventLoop.call_soon."""
        handle = _Callback((0.0, 0, callback, args, copy_context() if context is None else context))
        self._ready.append(handle)
        return handle  # type: ignore[return-value]  # it has what is asked of a handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        """See AbstractEventLoop.call_soon_threadsafe. Ctrl-C calls it; a loop that never sleeps is not to be woken."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See AbstractEventLoop.call_later."""
        # As call_at, without the call.
        context = copy_context() if context is None else context
        timer = _Timer((self._now + delay, next(self._numbers), callback, args, context, self))
        heappush(self._timers, timer)
        return timer  # type: ignore[return-value]  # likewise

    def call_at(
        self, when: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See AbstractEventLoop.call_at."""
        context = copy_context() if context is None else context
        timer = _Timer((when, next(self._numbers), callback, args, context, self))
        heappush(self._timers, timer)
        return timer  # type: ignore[return-value]  # likewise

    def _timer_died(self) -> None:
        """Count a cancelled timer, and remove all of them once they outnumber the others."""
        self._dead_timers += 1
        if self._dead_timers > MAX_DEAD_TIMERS and 2 * self._dead_timers > len(self._timers):
            self._timers[:] = [timer for timer in self._timers if timer[2] is not None]
            heapify(self._timers)
            self._dead_timers = 0

    def _run_once(self) -> None:
        """Turn after turn until the loop is stopped, as `run_forever` does with asyncio's. Raises Deadlock."""
        timers, ready = self._timers, self._ready
        while True:
            if not ready and not self._stopping:
                self._jump()
            while timers and timers[0][0] <= self._now:
                timer = heappop(timers)
                self._dead_timers -= timer[2] is None
                ready.append(timer)
            for _ in range(len(ready)):
                handle = ready.popleft()
                function = handle[2]
                if function is not None:
                    handle[2] = None
                    try:
                        handle[4].run(function, *handle[3])
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:  # as Handle._run
                        self._report(function, error)
            if self._stopping:
                return

    def _jump(self) -> None:
        """Move the clock to the next timer. Raises Deadlock when there is none."""
        timers = self._timers
        while timers and timers[0][2] is None:
            heappop(timers)
            self._dead_timers -= 1
        if not timers:
            raise Deadlock("no timer is set and no callback is ready" + waiting_tasks())
        self._now = max(self._now, timers[0][0])

    def _report(self, function: Any, error: BaseException) -> None:
        self.call_exception_handler({"message": f"Exception in callback {function}", "exception": error})


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
