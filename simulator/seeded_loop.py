"""A virtual loop for the exploration of races: events of different processes at one instant, in an order from a seed.

Each process keeps the order that asyncio would give it in a loop of its own: its callbacks run in turns, as many in a
turn as were ready, and its timers of one instant in the order in which they were set. Drawn is only whose turn is next.
So a message that wakes three processes, or timers of several, meet in every order that separate processes could show.
A process may also have a clock of its own (simulator/process_clock.py), and stand still for a while.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from itertools import count
from typing import Any, Final, TypeVar, TypeVarTuple

from shared.runtime.ids import Ids
from simulator.process import Incarnation, current_incarnation, owner_of
from simulator.virtual_loop import Deadlock, VirtualLoop, waiting_tasks

T = TypeVar("T")
Args = TypeVarTuple("Args")
MAX_TURNS: Final = 200_000  # of processes at one instant


class Livelock(RuntimeError):
    """Callbacks go on for ever at one instant; the text names the tasks and where they wait."""


class SeededLoop(VirtualLoop):
    """A virtual loop whose processes take turns in an order drawn from a seed. turns: how many there were.

    A callback belongs to the incarnation of its context; those of none (users, the supervisors of processes) count as
    one process more.
    """

    # Fields of BaseEventLoop, the same from Python 3.11 to 3.14.
    _ready: deque[asyncio.Handle]
    _stopping: bool

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.turns = 0
        self._order = Ids(seed + 1)  # 0 would be the system's randomness
        self._timers: list[tuple[float, int, asyncio.Handle]] = []  # a heap: true time, number, timer
        self._numbers = count()
        self._queues: dict[Incarnation | None, deque[asyncio.Handle]] = {}
        self._paused: dict[Incarnation | None, float] = {}  # until when
        self._turns_now = 0

    def pause(self, incarnation: Incarnation, seconds: float) -> None:
        """Let a life stand still, as a suspended process does: the world goes on, and it finds out later."""
        until = self._now + seconds
        self._paused[incarnation] = max(until, self._paused.get(incarnation, until))
        self._push_timer(until, asyncio.Handle(self._resume, (), self, Context()))

    def _resume(self) -> None:
        self._paused = {life: until for life, until in self._paused.items() if until > self._now}

    # --- clocks -------------------------------------------------------------------------------------
    def time(self) -> float:
        """Seconds on the clock of the process that asks."""
        owner = current_incarnation()
        return self.true_time() if owner is None else owner.clock.local(self.true_time())

    def call_soon(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        """See AbstractEventLoop.call_soon. The handle knows its context, and so whose turn it belongs to."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See AbstractEventLoop.call_later. delay: on the clock of the process that asks."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See AbstractEventLoop.call_at. when: on the clock of the process that asks."""
        owner = current_incarnation()
        true_s = when if owner is None else owner.clock.true(when)
        timer = asyncio.TimerHandle(true_s, callback, args, self, context)
        self._push_timer(true_s, timer)
        return timer

    def _push_timer(self, true_s: float, timer: asyncio.Handle) -> None:
        heapq.heappush(self._timers, (true_s, next(self._numbers), timer))

    # --- turns --------------------------------------------------------------------------------------
    def _run_once(self) -> None:
        """One turn of one process, in place of BaseEventLoop's turn of all."""
        if not self._ready and not self._stopping and not self._able():
            self._advance()
        self._take_due_timers()
        for handle in self._ready:
            self._queues.setdefault(owner_of(_context(handle)), deque()).append(handle)
        self._ready.clear()
        able = self._able()
        if not able:
            return
        chosen = able[self._order.bits(32) % len(able)] if len(able) > 1 else able[0]
        for handle in self._queues.pop(chosen):
            if not handle.cancelled():
                handle._run()
        self._count_turn()

    def _able(self) -> list[Incarnation | None]:
        """Who has a callback that may run now."""
        return [owner for owner in self._queues if owner not in self._paused]

    def _advance(self) -> None:
        """Move the clock to the next timer. Raises Deadlock when there is none."""
        self._drop_cancelled()
        self._turns_now = 0
        if not self._timers:
            raise Deadlock("no timer is set and no callback is ready" + waiting_tasks())
        self._now = max(self._now, self._timers[0][0])

    def _take_due_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self._now:
            _, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._ready.append(timer)

    def _drop_cancelled(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)

    def _count_turn(self) -> None:
        self.turns += 1
        self._turns_now += 1
        if self._turns_now > MAX_TURNS:
            self._turns_now = 0  # so that the runner can still cancel its tasks
            raise Livelock(f"{MAX_TURNS} turns at {self.true_time()} s and no end" + waiting_tasks())


def run_seeded(main: Coroutine[Any, Any, T], seed: int) -> T:
    """asyncio.run on a virtual loop whose processes take turns in an order drawn from the seed."""
    with asyncio.Runner(loop_factory=lambda: SeededLoop(seed)) as runner:
        return runner.run(main)


def _context(handle: asyncio.Handle) -> Context:
    context: Context = handle._context  # type: ignore[attr-defined]  # asyncio's
    return context
