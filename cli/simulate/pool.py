"""Simulates in processes of their own, several at a time: each is an `outrider simulate` of one scenario.

Where there are enough scenarios for all processes, each process runs all policies of one: it starts once.
"""

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from cli.command.child_process import stop_process
from cli.command.errors import CommandError
from cli.simulate.finished import is_finished, mark_finished, mark_unfinished
from cli.simulate.options import SimulateOptions
from cli.simulate.planned_run import PlannedRun
from cli.simulate.pool_progress import PoolProgress
from cli.simulate.table import TableRow
from loadgen.commands.exit import progress_console
from shared.scenario.scenario import PolicyConfig

KEPT_LINES: Final = 30  # of a process's messages
LINE_BYTES: Final = 1 << 20


async def run_in_processes(
    options: SimulateOptions, runs: Sequence[PlannedRun], rows: list[TableRow], failed: list[str]
) -> None:
    """Run all, `options.jobs` at a time. rows: gets those that have a result; failed: why others have none.

    Those of a sweep that are finished already are not repeated.
    """
    _write_scenarios(runs)
    by_run = {run.result: TableRow(run, _body(run)) for run in runs if run.fields and is_finished(run)}
    waiting = deque(groups_of([run for run in runs if run.result not in by_run], options.jobs))
    progress = PoolProgress(progress_console(), len(runs), len(by_run), options.quiet)

    async def work() -> None:
        while waiting:
            group = waiting.popleft()
            problem = await _run(options, group, progress)
            done = [run for run in group if run.result.is_file()]
            by_run.update({run.result: TableRow(run, _body(run)) for run in done})
            if problem:  # of the first that has no result
                failed.append(f"{group[len(done)].name}: {problem}")
                waiting.extend([group[len(done) + 1 :]] if group[len(done) + 1 :] else [])

    try:
        async with progress, asyncio.TaskGroup() as tasks:
            for _ in range(min(options.jobs, len(waiting))):
                tasks.create_task(work())
    finally:
        rows += (by_run[run.result] for run in runs if run.result in by_run)


def groups_of(runs: Sequence[PlannedRun], jobs: int) -> list[list[PlannedRun]]:
    """The runs of each process: all of a scenario file and seed, or one each if that would leave processes idle."""
    by_file: dict[Path, list[PlannedRun]] = {}
    for run in runs:
        by_file.setdefault(run.file, []).append(run)
    return list(by_file.values()) if len(by_file) >= jobs else [[run] for run in runs]


def _write_scenarios(runs: Sequence[PlannedRun]) -> None:
    """Write the scenario file of every combination of swept fields, with all policies that run under it."""
    by_file: dict[Path, list[PlannedRun]] = {}
    for run in runs:
        if run.fields:
            by_file.setdefault(run.file, []).append(run)
    for file, of_file in by_file.items():
        policies = [run.simulation.policy.model_dump(mode="json") for run in of_file]
        data = {**of_file[0].data, "policies": policies}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8"
        )


async def _run(options: SimulateOptions, group: Sequence[PlannedRun], progress: PoolProgress) -> str:
    """Run some of one scenario file in a process, in turn. Returns why one has no result, "" if all have one."""
    for run in group:
        mark_unfinished(run)
        run.result.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        *_command(options, group),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others
        limit=LINE_BYTES,
    )
    last: deque[str] = deque(maxlen=KEPT_LINES)
    left = deque(group)
    progress.start(left[0])
    try:
        async for line in _lines(process):
            last.append(line)
            _end_finished(left, progress)
            if left:
                progress.update(left[0], line)
        code = await process.wait()
    except asyncio.CancelledError:
        await stop_process(process)
        raise
    finally:
        _end_finished(left, progress)
    if not left:
        return ""
    progress.end(left[0], None)
    return _reason(last) or f"its process ended with code {code}"


def _end_finished(left: deque[PlannedRun], progress: PoolProgress) -> None:
    """Take the runs off that have a result. One that is not valid has one as well, and its row says so."""
    while left and left[0].result.is_file():
        run = left.popleft()
        body = _body(run)
        if run.fields and body["valid"]:
            mark_finished(run)
        progress.end(run, TableRow(run, body))
        if left:
            progress.start(left[0])


def _command(options: SimulateOptions, group: Sequence[PlannedRun]) -> list[str]:
    only = ",".join(_policy_word(run.simulation.policy) for run in group)
    given = [group[0].file, "--only", only, "--out", group[0].folder, "--jobs", 1]
    for option, value in (
        ("--profile", options.profile),
        ("--seed", options.seed),
        ("--settle", options.settle_s),
        ("--measure", options.measure_s),
    ):
        given += [option, value] if value else []
    given += ["--trace"] if options.trace else []
    return [sys.executable, "-m", "cli.main", "simulate", *map(str, given)]


def _policy_word(policy: PolicyConfig) -> str:
    window = f"+{policy.window}" if policy.window else ""
    return f"{policy.policy}{window}@{policy.bandwidth}:{policy.k}"


async def _lines(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    if process.stderr is None:
        raise CommandError("a simulation's messages cannot be read")
    async for line in process.stderr:
        if text := line.decode("utf-8", "replace").rstrip():
            yield text


def _reason(last: Sequence[str]) -> str:
    """A process's own words on why it ended: the line of the command, and those that belong to it."""
    lines = list(last)
    start = max((at for at, line in enumerate(lines) if line.startswith("outrider: ")), default=0)
    return "\n".join(lines[start:]).removeprefix("outrider: ")


def _body(run: PlannedRun) -> dict[str, Any]:
    """The result file. Raises CommandError."""
    try:
        body: dict[str, Any] = json.loads(run.result.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(f"{run.result}: {error}") from None
    return body
