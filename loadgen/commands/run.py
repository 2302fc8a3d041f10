"""`loadgen run`."""

import typer
import uvloop
from rich.console import Console

from loadgen.commands.console import show
from loadgen.commands.endpoint import contact
from loadgen.commands.exit import EXIT_FAILED, cli_errors, fail, progress_console, stop_on_signals
from loadgen.results.output import OutputError, check_output, keep
from loadgen.results.partial_rows import PartialRows
from loadgen.run.drive import RunState
from loadgen.run.options import RunOptions
from loadgen.run.outcome import RunOutcome
from loadgen.run.plan import make_plan
from loadgen.run.progress import Progress
from loadgen.run.runner import SIDE_SUFFIXES, client_of, run_observed, write


def run(options: RunOptions) -> None:
    """Send requests as scheduled and write the result.

    Open loop unless --concurrency is given: the seed fixes the whole schedule before the first request, and a slow
    endpoint does not change it. Ctrl-C ends a run early and keeps the result so far.
    """
    uvloop.run(run_and_write(options))


async def run_and_write(options: RunOptions) -> None:
    """Run the command. Raises typer.Exit."""
    console, state = progress_console(), RunState()
    with cli_errors():
        check_output(options.out, SIDE_SUFFIXES)
    options, where = await contact(options)
    stop_on_signals(state)
    with cli_errors():
        plan = make_plan(options, where, options.model)
        rows = PartialRows(options.out, plan.config)
        state.on_end = rows.add
        async with client_of(where) as client:
            with Progress(console, options.quiet) as live:
                outcome = await run_observed(plan, state, client, live)
    kept, lost = options.out, ""
    try:
        kept = keep(options.out, lambda path: write(outcome, plan.config, state, path))
    except OutputError as error:
        lost = str(error)
    rows.close(keep=bool(lost))
    if lost or not options.quiet:
        show(console, outcome, None if lost else kept)
    if lost or kept != options.out:
        fail(lost or f"{options.out} cannot be written any more; the result is in {kept}")
    judge(console, outcome)


def judge(console: Console, outcome: RunOutcome) -> None:
    """Print why a run is not valid or which assertions fail, and exit with code 1 in either case."""
    for why in outcome.problems:
        console.print(f"[red]not valid:[/] {why}", soft_wrap=True)
    for why in outcome.failed:
        console.print(f"[red]failed:[/] {why}", soft_wrap=True)
    if outcome.problems or outcome.failed:
        raise typer.Exit(EXIT_FAILED)
