"""Progress of a long command: bars on a terminal; otherwise, as in a log or in CI, a line every 15 s."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LINE_S: Final = 15.0


class ProgressStep:
    """One step of a command, `done` of `total` units complete. note: result of the last unit, shown beside it."""

    def __init__(
        self, steps: "Steps", bar: TaskID, what: str, total: int, clock: Callable[[], float]
    ) -> None:
        self.bar, self.what, self.total, self.done, self.note = bar, what, total, 0, ""
        self._steps, self._clock, self._began = steps, clock, clock()

    def advance(self, note: str = "") -> None:
        """Count one more unit as done."""
        self.done += 1
        self.note = note
        self._steps.changed(self)

    def complete(self) -> None:
        """Mark the step as complete, whatever was counted: the rest may have been done in an earlier run."""
        self.done = self.total
        self._steps.changed(self)

    def line(self) -> str:
        """The progress as one line of text."""
        note = f" ({self.note})" if self.note else ""
        return f"{self.what}: {self.done} of {self.total} after {self._clock() - self._began:.0f} s{note}"


class Steps:
    """The steps of one command, one after another. Use as `with Steps(console) as steps` or `async with`.

    In a coroutine a line comes every 15 s; in synchronous code with the first advance that is 15 s after the last line.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock, self._printed = console, clock, clock()
        self._step: ProgressStep | None = None
        self._lines: asyncio.Task[None] | None = None
        columns = (
            TextColumn("{task.description:<44}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end()
        self._bars.stop()

    async def __aenter__(self) -> Self:
        self._clock = asyncio.get_running_loop().time
        self._lines = asyncio.create_task(self._print_lines())
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
        if self._lines:
            self._lines.cancel()
            await asyncio.gather(self._lines, return_exceptions=True)

    def step(self, what: str, total: int) -> ProgressStep:
        """Begin the next step, which ends the one before. what: its description; total: its units."""
        self._end()
        self._printed = self._clock()
        self._step = ProgressStep(self, self._bars.add_task(what, total=total), what, total, self._clock)
        return self._step

    def changed(self, step: ProgressStep) -> None:
        """Update the display. Called by a step."""
        description = f"{step.what}: {step.note}" if step.note else step.what
        self._bars.update(step.bar, completed=step.done, description=description)
        if self._lines is None and self._clock() - self._printed >= LINE_S and step.done < step.total:
            self._print(step)

    def _end(self) -> None:
        if self._step:
            self._bars.update(self._step.bar, description=self._step.what)
            self._bars.stop_task(self._step.bar)
            self._print(self._step)
        self._step = None

    async def _print_lines(self) -> None:
        while True:
            await asyncio.sleep(LINE_S)
            if self._step:
                self._print(self._step)

    def _print(self, step: ProgressStep) -> None:
        """Print a step's line, unless bars are shown."""
        self._printed = self._clock()
        if not self._console.is_terminal:
            self._console.print(step.line(), highlight=False, markup=False, soft_wrap=True)
