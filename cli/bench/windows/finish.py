"""Runs what is planned and not finished yet."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

import structlog

from cli.command.errors import CommandError
from cli.simulate.options import SimulateOptions
from cli.simulate.planned_run import PlannedRun
from cli.simulate.pool import run_in_processes
from cli.simulate.table import TableRow


def finish(runs: Sequence[PlannedRun], options: SimulateOptions) -> None:
    """Run all that is not finished, `options.jobs` at a time. Raises CommandError if one has no valid result."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    rows: list[TableRow] = []
    failed: list[str] = []
    asyncio.run(run_in_processes(replace(options, sweep=("",)), runs, rows, failed))
    failed += [f"{row.run.name}: {problem}" for row in rows for problem in row.body["problems"]]
    if failed:
        raise CommandError("; ".join(failed))
