"""`loadgen sweep`."""

from pathlib import Path
from typing import Annotated

import typer
import uvloop

from loadgen.commands.console import show_sweep
from loadgen.commands.endpoint import reached
from loadgen.commands.exit import cli_errors, end_on_signals, progress_console
from loadgen.commands.run import run
from loadgen.results.output import OutputError, check_output
from loadgen.run.drive import RunState
from loadgen.run.options import RunOptions, command
from loadgen.run.progress import Progress
from loadgen.run.runner import BESIDE, Observer
from loadgen.run.sweep import Sweep, SweepError, SweepRun, legs, parse_levels, parse_policies, run_sweep


def sweep(
    context: typer.Context,
    rates: Annotated[str, typer.Option(help="Requests per second, one run each: '0.5,1,2,4'.")] = "",
    users: Annotated[str, typer.Option(help="Or users at once, in closed loops: '1,2,4,8'.")] = "",
    policies: Annotated[
        str, typer.Option(help="Outrider's policies by turns: 'greedy-batch,fixed-k:4,outrider'.")
    ] = "",
    repeats: Annotated[int, typer.Option(min=1, help="Of all of it.")] = 1,
    out: Annotated[Path, typer.Option(help="The whole; its runs lie in a folder of that name.")] = Path(
        ".outrider/sweep.json"
    ),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing meanwhile.")] = False,
) -> None:
    """Runs over rates or users, for several policies: the knee of each, and where speculation stops paying.

    All other options are those of `loadgen run`, for each of the runs: --duration 30 --answer-tokens 64 --warmup 5 …
    """
    of_run = typer.Typer(add_completion=False)
    of_run.command()(command(run))
    options = RunOptions(**typer.main.get_command(of_run).make_context("run", context.args).params)
    with cli_errors():
        if bool(rates) == bool(users):
            raise SweepError("--rates or --users, one of them, says what to sweep over")
        levels = parse_levels(rates, "rates") if rates else parse_levels(users, "users")
        wanted = Sweep(levels, bool(rates), parse_policies(policies), repeats)
    uvloop.run(_sweep(wanted, options, out, quiet))


async def _sweep(wanted: Sweep, options: RunOptions, out: Path, quiet: bool) -> None:
    console, over = progress_console(), RunState()
    with cli_errors():
        if not out.suffix:
            raise OutputError(
                f"--out {out}: give a name with an ending, for example {out}.json; runs go to {out}/"
            )
        check_output(out)
        check_output(out.with_suffix("") / out.name, BESIDE)
    options, _ = await reached(options)
    end_on_signals(over)
    total, unit = len(list(legs(wanted))), "requests/s" if wanted.open_loop else "users"
    with cli_errors(), Progress(console, quiet) as live:

        def course_of(leg: SweepRun) -> tuple[RunState, Observer]:
            if not quiet:
                console.print(f"[{leg.number} of {total}] {leg.entrant}, {leg.level:g} {unit}", markup=False)
            return RunState(over.over), live

        whole = await run_sweep(wanted, options, options.model, out, course_of)
    show_sweep(console, whole, out)
