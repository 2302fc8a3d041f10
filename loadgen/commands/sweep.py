"""`loadgen sweep`."""

from pathlib import Path
from typing import Annotated

import typer
import uvloop

from loadgen.commands.console import show_sweep
from loadgen.commands.endpoint import contact
from loadgen.commands.exit import cli_errors, progress_console, stop_on_signals
from loadgen.commands.run import run
from loadgen.results.output import OutputError, check_output
from loadgen.run.drive import RunState
from loadgen.run.options import RunOptions, command
from loadgen.run.progress import Progress
from loadgen.run.runner import SIDE_SUFFIXES, Observer
from loadgen.run.sweep import Sweep, SweepError, SweepRun, parse_levels, parse_policies, run_sweep, sweep_runs


def sweep(
    context: typer.Context,
    rates: Annotated[str, typer.Option(help="Requests per second, one run each: '0.5,1,2,4'.")] = "",
    users: Annotated[
        str, typer.Option(help="Concurrent users in closed loops, one run each: '1,2,4,8'.")
    ] = "",
    policies: Annotated[
        str, typer.Option(help="Policies of Outrider, in turn: 'greedy-batch,fixed-k:4,outrider'.")
    ] = "",
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of the whole sweep.")] = 1,
    out: Annotated[
        Path, typer.Option(help="Result file; results of the runs go to a folder of that name.")
    ] = Path(".outrider/sweep.json"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Do runs over rates or users for several policies, and find their knees and crossovers.

    All other options are those of `loadgen run` and apply to each run: --duration 30 --answer-tokens 64 --warmup 5 …
    """
    of_run = typer.Typer(add_completion=False)
    of_run.command()(command(run))
    options = RunOptions(**typer.main.get_command(of_run).make_context("run", context.args).params)
    with cli_errors():
        if bool(rates) == bool(users):
            raise SweepError("give either --rates or --users")
        levels = parse_levels(rates, "rates") if rates else parse_levels(users, "users")
        plan = Sweep(levels, bool(rates), parse_policies(policies), repeats)
    uvloop.run(_sweep(plan, options, out, quiet))


async def _sweep(plan: Sweep, options: RunOptions, out: Path, quiet: bool) -> None:
    console, overall = progress_console(), RunState()
    with cli_errors():
        if not out.suffix:
            raise OutputError(
                f"--out {out}: give a name with a suffix, for example {out}.json; runs go to {out}/"
            )
        check_output(out)
        check_output(out.with_suffix("") / out.name, SIDE_SUFFIXES)
    options, _ = await contact(options)
    stop_on_signals(overall)
    total, unit = len(list(sweep_runs(plan))), "requests/s" if plan.open_loop else "users"
    with cli_errors(), Progress(console, quiet) as live:

        def start_leg(leg: SweepRun) -> tuple[RunState, Observer]:
            if not quiet:
                console.print(f"[{leg.number} of {total}] {leg.policy}, {leg.level:g} {unit}", markup=False)
            return RunState(overall.stop), live

        whole = await run_sweep(plan, options, options.model, out, start_leg)
    show_sweep(console, whole, out)
