"""How a command ends: errors in one line, Ctrl-C in order, exit codes that mean something."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import typer

from loadgen.drive import Course
from loadgen.loaded import ReportError
from loadgen.options import WRONG, OptionError
from loadgen.stack_metrics import ScrapeError
from loadgen.sweep import SweepError
from loadgen.timeline import TimelineError
from shared.broker.contract import BrokerAway
from shared.runtime.settings import SettingsError
from shared.scenario.scenario import ScenarioError

EXIT_FAILED: Final = 1  # an assertion, or a run that is not valid
EXIT_WRONG: Final = 2  # the command line, a file, or nobody at the endpoint
OURS: Final = (
    ScrapeError,
    TimelineError,
    OptionError,
    SweepError,
    ReportError,
    ScenarioError,
    SettingsError,
    BrokerAway,
)


@contextmanager
def told() -> Iterator[None]:
    """Errors that a person can act on are one line."""
    try:
        yield
    except (*OURS, *WRONG) as error:
        leave(str(error))


def end_on_signals(course: Course) -> None:
    """Ctrl-C ends the run and keeps what there is."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, course.over.set)


def leave(message: str) -> NoReturn:
    typer.echo(f"loadgen: {message}", err=True)
    raise typer.Exit(EXIT_WRONG)
