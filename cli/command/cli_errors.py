"""Ends a command that failed: one line on stderr, no traceback, and an exit code."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import typer

from cli.command.errors import CommandError, ProcessFailed
from shared.runtime.errors import innermost, words

DEBUG: Final = "OUTRIDER_DEBUG"


def expected() -> tuple[type[Exception], ...]:
    """The errors that are shown as one line. The modules load here, so that `--help` stays quick."""
    import aiohttp

    from shared.broker.contract import BrokerAway, BrokerDenied
    from shared.broker.device_list import DeviceListError
    from shared.broker.embedded import NoServer
    from shared.runtime.address import AddressError
    from shared.runtime.settings import SettingsError
    from shared.runtime.stack_state import StateError

    return (
        CommandError,
        StateError,
        ProcessFailed,
        TimeoutError,
        BrokerAway,
        BrokerDenied,
        DeviceListError,
        NoServer,
        AddressError,
        SettingsError,
        aiohttp.ClientConnectionError,
    )


@contextmanager
def cli_errors(*besides: type[Exception]) -> Iterator[None]:
    """Expected errors, those besides, and files that cannot be used are one line; Ctrl-C ends cleanly."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except Exception as raised:
        error = innermost(raised)
        about_a_file = isinstance(error, OSError) and error.filename is not None
        if about_a_file or isinstance(error, (*expected(), *besides)):
            fail(words(error))
        raise


def fail(message: str) -> NoReturn:
    """Say so and end with code 1."""
    print(f"outrider: {message}", file=sys.stderr)
    raise typer.Exit(1)


def run_app(name: str, app: Callable[[], object]) -> None:
    """Run a command line. What a terminal cannot show becomes a question mark; no error ends it with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except Exception as raised:
        if os.environ.get(DEBUG, "") not in ("", "0"):
            raise
        error = innermost(raised)
        print(f"{name}: {unexpected(error)}", file=sys.stderr)
        raise SystemExit(1) from None


def unexpected(error: BaseException) -> str:
    """One line for an error that nobody foresaw, and how to see where it came from."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is needed for this and not installed; pip install 'outrider[all]' brings everything"
    kind, text = type(error).__name__, " ".join(words(error).split())
    said = kind if text == kind else f"{kind}: {text}"
    return f"unexpected {said} ({DEBUG}=1 shows the traceback)"
