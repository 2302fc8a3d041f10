"""Supervision of one local process: start, watch, restart after a death, stop within a time limit."""

import asyncio
import ctypes
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli.command.errors import ProcessFailed
from shared.runtime.service import EXIT_LOST, EXIT_REFUSED, EXIT_SETTINGS, EXIT_SUPERSEDED

STOP_S: Final = 10.0  # from SIGTERM to SIGKILL
BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
FINAL_CODES: Final = frozenset({EXIT_SETTINGS, EXIT_REFUSED, EXIT_SUPERSEDED})  # restarting does not help
MAX_DEATHS: Final = 3  # a process that dies this often in the same way before it was ever ready is given up
LAST_BYTES: Final = 4096  # part of a log's end that is searched for its last lines
PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Spec:
    """A process to run.

    ready_url: responds with 200 once the process can work; "" = ready at once. device: the stack goes on without it.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_url: str = ""
    device: bool = False


class Supervised:
    """Keeps one process running until stopped. Its output goes to a log file.

    deaths: a line for every unexpected exit, also printed to stderr. pids: those of all incarnations. was_ready: set by
    the caller once the process works; until then MAX_DEATHS exits of the same kind are final. restarted: called after
    every restart; may raise ProcessFailed.
    """

    def __init__(
        self,
        spec: Spec,
        log_dir: Path,
        restarted: "Callable[[Supervised], Awaitable[None]] | None" = None,
    ) -> None:
        self.spec = spec
        self.log_file = log_dir / f"{spec.name}.log"
        self.restarts = 0
        self.deaths: list[str] = []
        self.pids: set[int] = set()
        self.was_ready = False
        self._restarted = restarted
        self._same: Counter[int] = Counter()
        self._killed = False
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._spawning = asyncio.Lock()
        self._log_start = 0  # offset in the log file where the current incarnation's output begins

    @property
    def pid(self) -> int:
        """Id of the running process; 0 while none is running."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else 0

    async def start(self) -> None:
        """Start the first incarnation. Raises ProcessFailed."""
        await self._spawn()

    async def watch(self) -> None:
        """Restart the process whenever it dies; returns after `stop`. Raises ProcessFailed if that does not help."""
        while not self._stopping.is_set():
            code = await self._wait()
            if self._stopping.is_set():
                return
            if code in FINAL_CODES:
                raise ProcessFailed(f"{self.spec.name} ended with code {code}: {self.last_words()}")
            self._note_death(code)
            await asyncio.sleep(BACKOFF_S[min(self.restarts, len(BACKOFF_S) - 1)])
            self.restarts += 1
            await self._spawn()
            if self._restarted is not None and not self._stopping.is_set():
                await self._restarted(self)

    def kill(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the running process. It is restarted if it dies, which does not count as a death."""
        if self.pid:
            self._killed = True
            os.kill(self.pid, signum)

    async def stop(self, limit_s: float = STOP_S) -> None:
        """Send SIGTERM, then SIGKILL after limit_s seconds, and wait for the end."""
        self._stopping.set()
        async with self._spawning:  # so that a process whose restart is under way is stopped, too
            process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), limit_s)
        except TimeoutError:
            process.kill()
            await process.wait()

    def last_words(self, lines: int = 3) -> str:
        """The last lines in the log of the current incarnation."""
        try:
            with self.log_file.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                start = self._log_start if self._log_start <= size else 0
                log.seek(max(start, size - LAST_BYTES))
                end = log.read(LAST_BYTES).decode(errors="replace")
        except OSError:
            return "(no log)"
        return " / ".join(end.strip().splitlines()[-lines:]) or "(empty log)"

    def _note_death(self, code: int) -> None:
        """Record and print an unexpected exit. Raises ProcessFailed after too many before it was ready."""
        if self._killed:
            self._killed = False
            return
        if code == EXIT_LOST:  # with a process that it works with, whose death is noted
            note(f"{self.spec.name} starts again: {self.last_words(1)}")
            return
        self._same[code] += 1
        if not self.was_ready and self._same[code] >= MAX_DEATHS:
            raise ProcessFailed(
                f"{self.spec.name} ended {MAX_DEATHS} times with {exit_reason(code)} before it was ready: "
                f"{self.last_words()} (log: {self.log_file})"
            )
        self.deaths.append(
            f"{self.spec.name} ended unexpectedly with {exit_reason(code)}: {self.last_words(1)}"
        )
        note(f"{self.deaths[-1]}; restarting it (log: {self.log_file})")

    async def _wait(self) -> int:
        """Wait for the current incarnation to exit; returns its code. Raises RuntimeError before `start`."""
        if self._process is None:
            raise RuntimeError(f"{self.spec.name} was not started")
        return await self._process.wait()

    async def _spawn(self) -> None:
        async with self._spawning:
            if self._stopping.is_set():
                return
            try:
                self._process = await self._execute()
            except OSError as error:
                raise ProcessFailed(f"{self.spec.name} cannot be started: {error}") from None
            self.pids.add(self._process.pid)

    async def _execute(self) -> asyncio.subprocess.Process:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            return await asyncio.create_subprocess_exec(
                *self.spec.argv,
                env={**os.environ, **self.spec.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal must reach only the supervisor, which stops the processes in order. A separate
                # session would do so too, but Linux divides the CPU among sessions first, and `nice` acts only within.
                process_group=0,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )


def exit_reason(code: int) -> str:
    """A return code as text; signals by name, as in "SIGILL (illegal instruction)"."""
    if code >= 0:
        return f"code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
    words = signal.strsignal(-code)
    return f"{name} ({words.lower()})" if words else name


def note(line: str) -> None:
    """Print a line to stderr. It is lost on a full disk or a closed stream, which must not end the stack."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def _die_with_parent() -> None:
    """Runs in the child, which then gets SIGTERM when the supervisor dies, so that no orphans remain."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
