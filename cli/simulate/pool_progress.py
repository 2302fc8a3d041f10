"""Progress of many simulations: in a terminal a line for each that runs, elsewhere a line for each that has ended."""

import asyncio
import time
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cli.simulate.planned_run import PlannedRun
from cli.simulate.table import TableRow

LINE_S: Final = 15.0  # between lines about the runs under way, outside of a terminal


class PoolProgress:
    """Use as `async with`. kept: runs that were finished before."""

    def __init__(self, console: Console, total: int, kept: int, quiet: bool) -> None:
        self._console, self._total, self._kept, self._done, self._quiet = console, total, kept, kept, quiet
        self._running: dict[str, str] = {}  # the last line of each, by name
        self._began: dict[str, float] = {}
        self._live = Live(console=console, transient=True) if console.is_terminal and not quiet else None
        self._lines: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._kept:
            self._print(f"{self._kept} of {self._total} runs are finished already")
        if self._live:
            self._live.start()
        elif not self._quiet:
            self._lines = asyncio.create_task(self._print_running())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        if self._lines:
            self._lines.cancel()
            await asyncio.gather(self._lines, return_exceptions=True)

    def start(self, run: PlannedRun) -> None:
        """Note that a run has begun."""
        self._running[run.name] = "starts"
        self._began[run.name] = time.perf_counter()
        self._draw()

    def update(self, run: PlannedRun, line: str) -> None:
        """Note what a run reports of itself."""
        self._running[run.name] = line.partition("  run ")[0]
        self._draw()

    def end(self, run: PlannedRun, row: TableRow | None) -> None:
        """Note that a run has ended, with a row or without."""
        self._done += 1
        del self._running[run.name]
        took_s = time.perf_counter() - self._began.pop(run.name)
        found = "failed"
        if row is not None:
            found = f"{row.body['figures']['output_throughput']:.1f} tok/s, {row.state}"
        self._print(f"[{self._done} of {self._total}] {run.name}: {found} ({took_s:.0f} s)")
        self._draw()

    def _draw(self) -> None:
        if not self._live:
            return
        table = Table.grid(padding=(0, 2))
        for name, line in self._running.items():
            table.add_row(name, f"[dim]{line}[/]")
        table.add_row(f"{self._done} of {self._total} done", "")
        self._live.update(table)

    def _print(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)

    async def _print_running(self) -> None:
        while True:
            await asyncio.sleep(LINE_S)
            for name, line in self._running.items():
                self._print(f"{name}: {line}")
