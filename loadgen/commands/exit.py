"""Ends a command: expected errors as one line, an orderly stop on Ctrl-C, and distinct exit codes."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, Final, NoReturn, TextIO, cast

import typer
from rich.console import Console

from loadgen.metrics.stack_metrics import ScrapeError
from loadgen.results.output import OutputError
from loadgen.results.result_reader import ReportError
from loadgen.results.stack_timeline import TimelineError
from loadgen.run.drive import RunState
from loadgen.run.plan import INPUT_ERRORS, OptionError
from loadgen.run.sweep import SweepError
from shared.broker.contract import BrokerAway
from shared.runtime.settings import SettingsError
from shared.scenario.scenario import ScenarioError

EXIT_FAILED: Final = 1  # an assertion does not hold, or the run is not valid
EXIT_USAGE: Final = 2  # wrong options or files, or the endpoint does not answer
EXPECTED_ERRORS: Final = (
    ScrapeError,
    TimelineError,
    OptionError,
    OutputError,
    SweepError,
    ReportError,
    ScenarioError,
    SettingsError,
    BrokerAway,
)


@contextmanager
def cli_errors() -> Iterator[None]:
    """End the command with one line for errors that a user can act on."""
    try:
        yield
    except (*EXPECTED_ERRORS, *INPUT_ERRORS) as error:
        fail(str(error))


def stop_on_signals(state: RunState) -> None:
    """Stop the run on Ctrl-C, SIGTERM and SIGHUP, so that its result so far is kept. SIGHUP is ignored under nohup."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(signum, state.stop.set)


def fail(message: str) -> NoReturn:
    """Print one line to stderr and end the command with EXIT_USAGE."""
    typer.echo(f"loadgen: {message}", err=True)
    raise typer.Exit(EXIT_USAGE)


class _ForgivingStream:
    """A stream that ignores write errors: a closed terminal or pipe must not end the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def progress_console() -> Console:
    """A console on stderr for a run's progress, which raises no error after its terminal has closed."""
    return Console(file=cast(IO[str], _ForgivingStream(sys.stderr)))
