"""The state folder of a local stack: the lock that a stack holds while it runs, and its description up.json."""

import asyncio
import fcntl
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

# A claim retries this long, since another process that checks whether the lock is held takes it for an instant.
CLAIM_TIMEOUT_S: Final = 1.0
LOCK_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.02


class StateError(RuntimeError):
    """A state folder cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class State:
    """A running stack, as up.json describes it."""

    pid: Annotated[int, Field(gt=1)]  # of the supervisor; 0 and -1 would be groups of processes
    started: str  # start time of the process, from `start_of`
    stack: str  # id that its processes return in STACK_HEADER
    url: str
    broker_url: str
    join_url: str
    metrics: tuple[str, ...]
    given_up: dict[str, str]  # devices that ended for good, and the reasons


_STATE: Final = TypeAdapter(State)


class FileLock:
    """An exclusive flock. It is released when the holding process ends in any way; the file stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def take(self, note: str = "") -> bool:
        """Take the lock and write a note to the file; False when it is held. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)  # not inherited: children do not keep it
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(fd, 0)
            os.write(fd, note.encode())
        except OSError as error:
            os.close(fd)
            if isinstance(error, BlockingIOError):
                return False
            raise
        self._fd = fd
        return True

    def release(self) -> None:
        """Release the lock. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def note(self) -> str:
        """The holder's note."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def is_held(self) -> bool:
        """Whether the lock is held now."""
        try:
            fd = os.open(self.path, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(fd)
        return False


@asynccontextmanager
async def locked(path: Path, wait_s: float = LOCK_TIMEOUT_S) -> AsyncIterator[None]:
    """Hold the lock of this path. Raises StateError when it is held for longer than wait_s, or OSError."""
    lock, deadline = FileLock(path), time.monotonic() + wait_s
    while not lock.take(str(os.getpid())):
        if time.monotonic() > deadline:
            raise StateError(f"{path}: process {lock.note()} has held this lock for {wait_s:g} s; try again")
        await asyncio.sleep(POLL_S)
    try:
        yield
    finally:
        lock.release()


def claim(state_dir: Path) -> FileLock:
    """Lock a state folder for a stack, and delete an earlier stack's up.json.

    Raises StateError when a stack runs there, or when the folder cannot be used.
    """
    lock, deadline = FileLock(_lock_file(state_dir)), time.monotonic() + CLAIM_TIMEOUT_S
    try:
        while not lock.take(str(os.getpid())):
            if time.monotonic() > deadline:
                raise StateError(
                    f"a stack runs here already (process {lock.note()}, state in {state_dir}); "
                    "stop it with `outrider down`, or choose another --state"
                )
            time.sleep(POLL_S)
        state_file(state_dir).unlink(missing_ok=True)
    except OSError as error:
        lock.release()
        raise StateError(f"--state {state_dir}: {error.strerror}: {error.filename}") from None
    return lock


def state_file(state_dir: Path) -> Path:
    """Path of up.json, which describes a running stack."""
    return state_dir / "up.json"


def write_state(state_dir: Path, state: State) -> None:
    """Write up.json atomically; only the folder's lock holder may. Raises OSError."""
    path = state_file(state_dir)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(_STATE.dump_json(state) + b"\n")
    new.replace(path)


def read_state(state_dir: Path) -> State | None:
    """State of the stack that runs here; None when there is none.

    A malformed file, or one of a stack that has ended, counts as none: the folder must be locked, and the process must
    be the one that wrote the file.
    """
    try:
        state = _STATE.validate_json(state_file(state_dir).read_bytes())
    except (OSError, ValidationError):
        return None
    alive = FileLock(_lock_file(state_dir)).is_held() and start_of(state.pid) == state.started
    return state if alive else None


def start_of(pid: int) -> str:
    """A process's start time as text, which tells reused pids apart. "" = no such process."""
    if sys.platform != "linux":
        import psutil  # noqa: PLC0415  # part of the extra `all`, like the rest of a local stack

        try:
            return f"{psutil.Process(pid).create_time():.3f}"
        except psutil.Error:
            return ""
    # In ticks since boot. A time of day would change with every correction of the clock.
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # field 22; a name may hold blanks and parentheses


def _lock_file(state_dir: Path) -> Path:
    return state_dir / "up.lock"
