"""How far a long command is: bars on a terminal; elsewhere, in a log or in CI, a line every 15 s."""

import asyncio
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LINE_S: Final = 15.0


class Step:
    """A part of the work: `done` of `total`. note: what the last advance came to."""

    def __init__(self, steps: "Steps", bar: TaskID, what: str, total: int) -> None:
        self.bar, self.what, self.total, self.done, self.note = bar, what, total, 0, ""
        self._steps = steps
        self._began = asyncio.get_running_loop().time()

    def advance(self, note: str = "") -> None:
        """One more is done."""
        self.done += 1
        self.note = note
        self._steps.changed(self)

    def complete(self) -> None:
        """All is done, whatever was counted: the rest was there before."""
        self.done = self.total
        self._steps.changed(self)

    def line(self) -> str:
        """In words."""
        seconds = asyncio.get_running_loop().time() - self._began
        note = f" ({self.note})" if self.note else ""
        return f"{self.what}: {self.done} of {self.total} after {seconds:.0f} s{note}"


class Steps:
    """The steps of one command. Use as `async with Steps(console) as steps`. A step ends when the next begins."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step: Step | None = None
        self._lines: asyncio.Task[None] | None = None
        columns = (
            TextColumn("{task.description:<44}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)

    async def __aenter__(self) -> "Steps":
        self._bars.start()
        if not self._console.is_terminal:
            self._lines = asyncio.create_task(self._print_lines())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end()
        self._bars.stop()
        if self._lines:
            self._lines.cancel()
            await asyncio.gather(self._lines, return_exceptions=True)

    def step(self, what: str, total: int) -> Step:
        """The next step begins."""
        self._end()
        self._step = Step(self, self._bars.add_task(what, total=total), what, total)
        return self._step

    def changed(self, step: Step) -> None:
        """Called by a step: show how far it is."""
        description = f"{step.what}: {step.note}" if step.note else step.what
        self._bars.update(step.bar, completed=step.done, description=description)

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

    def _print(self, step: Step) -> None:
        """Only where there are no bars."""
        if self._lines:
            self._console.print(step.line(), highlight=False, markup=False, soft_wrap=True)
