"""Exits from failed commands: one line on stderr without a traceback, and an exit code."""

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
    """The errors that are shown as one line. Their modules are imported here, so that `--help` stays quick."""
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
def cli_errors(*further: type[Exception]) -> Iterator[None]:
    """Show expected errors, `further` ones, and OSErrors that name a file as one line, with exit code 1.

    Ctrl-C exits with code 130.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except Exception as raised:
        error = innermost(raised)
        about_a_file = isinstance(error, OSError) and error.filename is not None
        if about_a_file or isinstance(error, (*expected(), *further)):
            fail(words(error))
        raise


def fail(message: str) -> NoReturn:
    """Print the message to stderr and exit with code 1."""
    print(f"outrider: {message}", file=sys.stderr)
    raise typer.Exit(1)


def run_app(name: str, app: Callable[[], object]) -> None:
    """Run a command line. An unexpected error is one line and exit code 1; OUTRIDER_DEBUG=1 shows its traceback.

    Characters that the terminal's encoding lacks are printed as question marks.
    """
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
    """One line for an unexpected error, with a hint at the traceback."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is needed but not installed; `pip install 'outrider[all]'` installs everything"
    kind, text = type(error).__name__, " ".join(words(error).split())
    said = kind if text == kind else f"{kind}: {text}"
    return f"unexpected {said} ({DEBUG}=1 shows the traceback)"
