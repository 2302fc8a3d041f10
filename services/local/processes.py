"""One supervised local process: started, watched, restarted when it dies, stopped with a bound."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shared.runtime.service import EXIT_REFUSED, EXIT_SETTINGS, EXIT_SUPERSEDED

STOP_S: Final = 10.0  # from SIGTERM to SIGKILL
BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
FINAL_CODES: Final = frozenset({EXIT_SETTINGS, EXIT_REFUSED, EXIT_SUPERSEDED})  # restarting does not help
PR_SET_PDEATHSIG: Final = 1


class ProcessFailed(RuntimeError):
    """A process ended in a way that restarting does not mend; the text holds its last words."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run. ready_url: answers 200 once the process can work; "" = at once."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready_url: str = ""


class Supervised:
    """Keeps one process running until stopped. Its output goes to a log file.

    deaths: a line for every end that nobody here asked for, told on stderr when it happens.
    """

    def __init__(self, spec: Spec, log_dir: Path) -> None:
        self.spec = spec
        self.log_file = log_dir / f"{spec.name}.log"
        self.restarts = 0
        self.deaths: list[str] = []
        self._killed = False
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int:
        """Of the running process, 0 between two."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else 0

    async def start(self) -> None:
        """Start the first incarnation."""
        self._process = await self._spawn()

    async def watch(self) -> None:
        """Restart it whenever it dies. Raises ProcessFailed when that does not help; returns after `stop`."""
        while not self._stopping.is_set():
            code = await self._ended()
            if self._stopping.is_set():
                return
            if code in FINAL_CODES:
                raise ProcessFailed(f"{self.spec.name} ended with code {code}: {self.last_words()}")
            self._note_death(code)
            await asyncio.sleep(BACKOFF_S[min(self.restarts, len(BACKOFF_S) - 1)])
            self.restarts += 1
            if not self._stopping.is_set():
                self._process = await self._spawn()

    def kill(self, signum: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the running process; it will be restarted if it dies."""
        if self.pid:
            self._killed = True
            os.kill(self.pid, signum)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after STOP_S."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    def last_words(self, lines: int = 3) -> str:
        """The end of its log."""
        try:
            return " / ".join(self.log_file.read_text(errors="replace").strip().splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def _note_death(self, code: int) -> None:
        if not self._killed:
            how = f"signal {-code}" if code < 0 else f"code {code}"
            self.deaths.append(f"{self.spec.name} ended by itself with {how}: {self.last_words(1)}")
            print(f"{self.deaths[-1]}; it is started again, see {self.log_file}", file=sys.stderr, flush=True)
        self._killed = False

    async def _ended(self) -> int:
        """Wait for the running incarnation; its exit code. Raises RuntimeError before `start`."""
        if self._process is None:
            raise RuntimeError(f"{self.spec.name} was not started")
        return await self._process.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self.spec.argv,
                env={**os.environ, **self.spec.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A terminal's Ctrl-C reaches only the supervisor, which stops in order. Not a session of its own:
                # Linux shares the processor among sessions first and heeds `nice` only within one.
                process_group=0,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )


def _die_with_parent() -> None:
    """Runs in the child: a supervisor that was killed leaves no orphans."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
