"""An event loop whose clock jumps to the next timer: hours of services in seconds, and the same in every run.

Nothing may wait for the outside world: no sockets, threads or processes. When no callback is ready and no timer is
set, nothing will ever happen, and the run ends with `Deadlock`.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
SHOWN: Final = 20  # tasks that a deadlock names


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


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a virtual clock."""

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._clock.now

    def true_time(self) -> float:
        """Virtual seconds since the loop was made, whoever asks."""
        return self._clock.now


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
