"""Simulates the cells of a sweep in processes of their own, several at a time. Finished cells are kept."""

import asyncio
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from cli.command.child_process import stop_process
from cli.command.errors import CommandError
from cli.train_awc.cell import Cell, draw_cell

LAST_BYTES: Final = 2000  # of a process's messages that are shown where it fails


def sweep(
    cells: int, seed: int, recordings: tuple[Path, ...], jobs: int, folder: Path, console: Console
) -> list[Path]:
    """Simulate the cells that are not finished yet. Returns the files of all, in order.

    Raises CommandError, KeyboardInterrupt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [draw_cell(number, seed, recordings) for number in range(cells)]
    files = [folder / f"{cell.number:03}.npz" for cell in drawn]
    waiting = deque(
        (cell, file) for cell, file in zip(drawn, files, strict=True) if not _is_finished(cell, file)
    )
    if len(waiting) < cells:
        console.print(f"{cells - len(waiting)} of {cells} cells are simulated already")
    try:
        asyncio.run(_Pool(waiting, cells, recordings, console).run(jobs))
    except asyncio.CancelledError:  # SIGTERM
        raise KeyboardInterrupt from None
    return files


def _is_finished(cell: Cell, file: Path) -> bool:
    try:
        with np.load(file, allow_pickle=False) as found:
            return str(found["digest"]) == cell.digest
    except (OSError, ValueError, KeyError):
        return False


class _Pool:
    def __init__(
        self, waiting: deque[tuple[Cell, Path]], total: int, recordings: Sequence[Path], console: Console
    ) -> None:
        self._waiting, self._total, self._recordings, self._console = waiting, total, recordings, console
        self._done = total - len(waiting)

    async def run(self, jobs: int) -> None:
        """Simulate all. Ctrl-C ends the processes under way, and keeps the cells that are done."""
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(jobs, len(self._waiting))):
                    group.create_task(self._work())
        except* CommandError as errors:
            raise errors.exceptions[0] from None

    async def _work(self) -> None:
        while self._waiting:
            cell, file = self._waiting.popleft()
            began = time.perf_counter()
            await self._simulate(cell, file)
            self._done += 1
            what = f"{cell.policy}, round trip {cell.rtt_ms:.0f} ms, load {cell.load:.2f}"
            took_s = time.perf_counter() - began
            self._console.print(
                f"[{self._done} of {self._total}] cell {cell.number}: {what} ({took_s:.0f} s)", markup=False
            )

    async def _simulate(self, cell: Cell, file: Path) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.train_awc.cell_run", str(cell.number), str(cell.seed), str(file)),
            *map(str, self._recordings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others
        )
        try:
            _, messages = await process.communicate()
        except asyncio.CancelledError:
            await stop_process(process)
            raise
        if process.returncode:
            last = messages[-LAST_BYTES:].decode("utf-8", "replace").strip()
            raise CommandError(
                f"cell {cell.number}: its process ended with code {process.returncode}\n{last}"
            )
