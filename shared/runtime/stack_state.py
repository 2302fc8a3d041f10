"""The state folder of a local stack: the lock that one stack holds for its life, and what it says of itself."""

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

LOOK_S: Final = 1.0  # whoever looks whether a lock is held has it for an instant: so long a claim tries again
WAIT_S: Final = 30.0
POLL_S: Final = 0.02


class StateError(RuntimeError):
    """A state folder cannot be had; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class State:
    """A running stack, as up.json describes it."""

    pid: Annotated[int, Field(gt=1)]  # of the supervisor; 0 and -1 would be groups of processes
    started: str  # see `start_of`
    stack: str  # id that its processes give back
    url: str
    broker_url: str
    join_url: str
    metrics: tuple[str, ...]
    given_up: dict[str, str]  # devices that ended for good, and why


_STATE: Final = TypeAdapter(State)


class FileLock:
    """An exclusive flock. It ends with the process that holds it, however that ends; the file stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def take(self, note: str = "") -> bool:
        """Take it and leave a note in the file; False when somebody has it. Raises OSError."""
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
        """Let others have it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def note(self) -> str:
        """What its holder left."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def is_held(self) -> bool:
        """Whether somebody has it now."""
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
async def locked(path: Path, wait_s: float = WAIT_S) -> AsyncIterator[None]:
    """Hold the lock of this path. Raises StateError when others hold it for longer than wait_s, or OSError."""
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
    """Hold a state folder for a stack, and forget what an earlier one left there.

    Raises StateError when a stack runs there, or when it cannot be a state folder.
    """
    lock, deadline = FileLock(_lock_file(state_dir)), time.monotonic() + LOOK_S
    try:
        while not lock.take(str(os.getpid())):
            if time.monotonic() > deadline:
                raise StateError(
                    f"a stack runs here already (process {lock.note()}, state in {state_dir}); "
                    "`outrider down` ends it, another --state keeps another one"
                )
            time.sleep(POLL_S)
        state_file(state_dir).unlink(missing_ok=True)
    except OSError as error:
        lock.release()
        raise StateError(f"--state {state_dir}: {error.strerror}: {error.filename}") from None
    return lock


def state_file(state_dir: Path) -> Path:
    """Where a running stack says who and where it is."""
    return state_dir / "up.json"


def write_state(state_dir: Path, state: State) -> None:
    """Whole or not at all, by the holder of the folder. Raises OSError."""
    path = state_file(state_dir)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(_STATE.dump_json(state) + b"\n")
    new.replace(path)


def read_state(state_dir: Path) -> State | None:
    """Of the stack that runs here; None when there is none.

    A file that is malformed, or whose stack has ended, counts as none: the folder must be held, and the process must
    be the one that wrote the file.
    """
    try:
        state = _STATE.validate_json(state_file(state_dir).read_bytes())
    except (OSError, ValidationError):
        return None
    alive = FileLock(_lock_file(state_dir)).is_held() and start_of(state.pid) == state.started
    return state if alive else None


def start_of(pid: int) -> str:
    """When a process started, as text: another process that gets its id later has another. "" = there is none."""
    if sys.platform != "linux":
        import psutil  # noqa: PLC0415  # part of the extra `all`, like the rest of a local stack

        try:
            return f"{psutil.Process(pid).create_time():.3f}"
        except psutil.Error:
            return ""
    # In ticks since the machine started. As a time of day it would move with every correction of the clock.
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]  # field 22; a name may hold blanks and parentheses


def _lock_file(state_dir: Path) -> Path:
    return state_dir / "up.lock"
