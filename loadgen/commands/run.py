"""`loadgen run`."""

import typer
import uvloop
from rich.console import Console

from loadgen.commands.console import show
from loadgen.commands.endpoint import reached
from loadgen.commands.exit import EXIT_FAILED, cli_errors, end_on_signals, fail, progress_console
from loadgen.results.output import OutputError, check_output, keep
from loadgen.run.drive import RunState
from loadgen.run.options import RunOptions
from loadgen.run.plan import settle
from loadgen.run.progress import Progress
from loadgen.run.runner import BESIDE, Outcome, client_of, watched, write


def run(options: RunOptions) -> None:
    """Send requests as scheduled, and write what happened.

    Open loop unless --concurrency is given: the whole schedule is fixed from the seed before the first request, and a
    slow endpoint changes nothing about it. Ctrl-C ends a run early and keeps what there is.
    """
    uvloop.run(run_and_write(options))


async def run_and_write(options: RunOptions) -> None:
    """The command. Raises typer.Exit."""
    console, course = progress_console(), RunState()
    with cli_errors():
        check_output(options.out, BESIDE)
    options, where = await reached(options)
    end_on_signals(course)
    with cli_errors():
        plan = settle(options, where, options.model)
        async with client_of(where) as client:
            with Progress(console, options.quiet) as live:
                outcome = await watched(plan, course, client, live)
    kept, lost = options.out, ""
    try:
        kept = keep(options.out, lambda path: write(outcome, plan, course, path))
    except OutputError as error:
        lost = str(error)
    if lost or not options.quiet:
        show(console, outcome, None if lost else kept)
    if lost or kept != options.out:
        fail(lost or f"{options.out} cannot be written any more; the result is kept as {kept}")
    judge(console, outcome)


def judge(console: Console, outcome: Outcome) -> None:
    """Exit code 1, and why, for a run that is not valid or does not reach what it was to."""
    for why in outcome.problems:
        console.print(f"[red]not valid:[/] {why}", soft_wrap=True)
    for why in outcome.failed:
        console.print(f"[red]failed:[/] {why}", soft_wrap=True)
    if outcome.problems or outcome.failed:
        raise typer.Exit(EXIT_FAILED)
