"""Runs scenarios on virtual time: here one after the other, or several at a time in processes of their own."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog
from rich.console import Console

from cli.command.errors import CommandError
from cli.simulate.options import SimulateOptions
from cli.simulate.planned_run import PlannedRun, plan_runs
from cli.simulate.pool import run_in_processes
from cli.simulate.progress import RunProgress
from cli.simulate.sweep_field import parse_sweep
from cli.simulate.sweep_result import write_sweep
from cli.simulate.table import TableRow, print_tables
from loadgen.commands.exit import progress_console
from loadgen.metrics.summary import Window
from loadgen.run.drive import RunState
from simulator.results import write_simulated
from simulator.run import simulate
from simulator.run_class import classify


def run_scenarios(options: SimulateOptions) -> None:
    """Run all that the options describe, and print a table of it.

    Raises ScenarioError, ProfileError, CommandError; KeyboardInterrupt after the results so far are shown.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    fields = parse_sweep(options.sweep)
    runs = plan_runs(options, fields)
    rows: list[TableRow] = []
    failed: list[str] = []
    try:
        if fields or (options.jobs > 1 and len(runs) > 1):
            asyncio.run(run_in_processes(options, runs, rows, failed))
        else:
            _run_here(options, runs, rows)
    except KeyboardInterrupt:
        _report_stop(options, runs, rows)
        raise
    finally:
        _show(rows, [run for run in runs if run.fields], bool(fields))
    problems = [*failed, *(problem for row in rows for problem in _problems(row))]
    if problems:
        raise CommandError("; ".join(problems))


def _run_here(options: SimulateOptions, runs: Sequence[PlannedRun], rows: list[TableRow]) -> None:
    """Run one after the other in this process. rows: gets those that have ended."""
    for run in runs:
        state = RunState()
        with RunProgress(progress_console(), run.name, options.quiet) as progress:
            outcome = simulate(run.simulation, state, progress)
        start, end = (state.started + end for end in outcome.body["window"].values())
        run_class = classify(state.records, Window(start, min(end, state.last_due)))  # while requests arrive
        outcome = replace(outcome, body={**outcome.body, "class": run_class})
        write_simulated(outcome, _config(run), state, run.result)
        rows.append(TableRow(run, outcome.body, progress.speed))


def _config(run: PlannedRun) -> dict[str, Any]:
    """The configuration to repeat the run."""
    simulation = run.simulation
    scenario = simulation.scenario.model_dump(mode="json", exclude={"policies", "seed"})
    if simulation.settle_s:
        scenario["settle"] = f"{simulation.settle_s:g} s"
    if simulation.measure_s:
        scenario["measure"] = f"{simulation.measure_s:g} s"
    goodput = simulation.plan.config["goodput"] if simulation.plan else ""
    return {
        "simulated": True,
        "scenario": run.scenario,
        "policy": run.policy,
        "label": f"{run.policy}, {run.scenario}",
        "seed": simulation.seed,
        "goodput": goodput,
        "profile": simulation.profile.model_dump(mode="json", by_alias=True) if simulation.profile else None,
        **scenario,
    }


def _show(rows: Sequence[TableRow], swept: Sequence[PlannedRun], is_sweep: bool) -> None:
    """Print the tables; write the result and the picture of a sweep."""
    print_tables(Console(), rows)
    if not is_sweep:
        return
    for scenario in dict.fromkeys(row.run.scenario for row in rows):
        of_one = [row for row in rows if row.run.scenario == scenario]
        total = sum(run.scenario == scenario for run in swept)
        written = write_sweep(of_one, total)
        print(f"written to {' and '.join(map(str, written))}")


def _report_stop(options: SimulateOptions, runs: Sequence[PlannedRun], rows: Sequence[TableRow]) -> None:
    """Say what is kept and how to go on."""
    how = "the same command goes on with the others" if options.sweep else "the others have no result"
    progress_console().print(
        f"stopped: {len(rows)} of {len(runs)} runs are done and kept in {options.out}; {how}",
        soft_wrap=True,
        highlight=False,
    )


def _problems(row: TableRow) -> list[str]:
    """Why a run is not valid or what it was expected to be and is not."""
    reasons = [*row.body["problems"], *row.body["failed_assertions"]]
    return [f"{row.run.name}: {reason}" for reason in reasons]
