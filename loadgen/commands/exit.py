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
from loadgen.run.plan import WRONG, OptionError
from loadgen.run.sweep import SweepError
from shared.broker.contract import BrokerAway
from shared.runtime.settings import SettingsError
from shared.scenario.scenario import ScenarioError

EXIT_FAILED: Final = 1  # an assertion, or a run that is not valid
EXIT_WRONG: Final = 2  # the command line, a file, or nobody at the endpoint
OURS: Final = (
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
    """Errors that a person can act on are one line."""
    try:
        yield
    except (*OURS, *WRONG) as error:
        fail(str(error))


def end_on_signals(course: RunState) -> None:
    """Ctrl-C, SIGTERM and a terminal that hangs up end the run and keep what there is; not a hang-up under nohup."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(signum, course.over.set)


def fail(message: str) -> NoReturn:
    typer.echo(f"loadgen: {message}", err=True)
    raise typer.Exit(EXIT_WRONG)


class _Outlived:
    """A stream whose reader may go away: a closed terminal or pipe ends what is shown, not the run."""

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
    """For what is shown of a run: on stderr, and no error if nobody is there to read it any more."""
    return Console(file=cast(IO[str], _Outlived(sys.stderr)))
