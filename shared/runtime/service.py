"""Common entry point of all services: event loop, signals and exit codes."""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NoReturn

import uvloop

from shared.broker.contract import BrokerDenied
from shared.runtime.errors import innermost, words
from shared.runtime.open_files import raise_open_files
from shared.runtime.presence import Superseded
from shared.runtime.settings import SettingsError

# New objects per young collection. With Python's 700 most live requests' objects become old, and full collections
# stopped a process of a thousand devices for 300 ms every 3 s.
GC_THRESHOLD: Final = 10_000
EXIT_SETTINGS: Final = 2  # a setting or a file is wrong: restarting does not help
EXIT_REFUSED: Final = (
    3  # the deployment does not take this process (credential, vocabulary, protocol version)
)
EXIT_SUPERSEDED: Final = 4  # a newer process has its name
EXIT_LOST: Final = 5  # processes that this one works with are gone: start all of them again


class Refused(RuntimeError):
    """The deployment does not take this process; the text says why."""


class Lost(RuntimeError):
    """Processes that this one works with are gone, so that it has to start again with them; the text says which."""


class BadFile(RuntimeError):
    """A file that this process needs is missing or invalid; the text names it."""


EXIT_CODES: Final[dict[type[Exception], int]] = {
    SettingsError: EXIT_SETTINGS,
    BadFile: EXIT_SETTINGS,
    Refused: EXIT_REFUSED,
    BrokerDenied: EXIT_REFUSED,
    Superseded: EXIT_SUPERSEDED,
    Lost: EXIT_LOST,
}


class FineLoop(uvloop.Loop):
    """uvloop with a precise clock: uvloop's own has a resolution of 1 ms and stands still within a loop iteration."""

    def time(self) -> float:
        """Monotonic time in seconds, with the same base for all processes of a host."""
        return time.monotonic()


def collect_seldom() -> None:
    """Tune garbage collection for a serving process. Call it after the imports."""
    # A full collection runs when a quarter of all objects is new. Imports create many permanent objects; without them
    # in the count, full collections come early and are short, instead of after minutes of garbage.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def main(name: str, run: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a service on uvloop until SIGTERM or SIGINT. Known errors exit with one line on stderr and a code."""
    collect_seldom()
    raise_open_files()
    try:
        with asyncio.Runner(loop_factory=FineLoop) as runner:
            runner.run(_until_signal(run))
    except Exception as raised:
        error = innermost(raised)
        code = next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), None)
        if code is None:
            raise
        with suppress(OSError, ValueError):  # a full disk or a closed terminal must not change the code
            print(f"{name}: {words(error)}", file=sys.stderr, flush=True)
        if code == EXIT_LOST:
            leave(code)
        raise SystemExit(code) from None


def leave(code: int) -> NoReturn:
    """End the process at once: a thread may wait, without an end, for a process that is gone."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)


async def _until_signal(run: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    await run(stop)
