"""Simulates in processes of their own, several at a time: each is an `outrider simulate` of one scenario and policy."""

import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import yaml

from cli.command.errors import CommandError
from cli.simulate.finished import is_finished, mark_finished, mark_unfinished
from cli.simulate.options import SimulateOptions
from cli.simulate.planned_run import PlannedRun
from cli.simulate.pool_progress import PoolProgress
from cli.simulate.table import TableRow
from loadgen.commands.exit import progress_console

STOP_S: Final = 5.0  # from SIGTERM to SIGKILL
KEPT_LINES: Final = 30  # of a process's messages
LINE_BYTES: Final = 1 << 20


async def run_in_processes(
    options: SimulateOptions, runs: Sequence[PlannedRun], rows: list[TableRow], failed: list[str]
) -> None:
    """Run all, `options.jobs` at a time. rows: gets those that have a result; failed: why others have none.

    Those of a sweep that are finished already are not repeated.
    """
    _write_scenarios(runs)
    by_place: dict[int, TableRow] = {}
    waiting: deque[tuple[int, PlannedRun]] = deque()
    for place, run in enumerate(runs):
        if run.fields and is_finished(run):
            by_place[place] = TableRow(run, _body(run))
        else:
            waiting.append((place, run))
    progress = PoolProgress(progress_console(), len(runs), len(by_place), options.quiet)

    async def work() -> None:
        while waiting:
            place, run = waiting.popleft()
            progress.start(run)
            problem = await _run(options, run, progress)
            if problem:
                failed.append(f"{run.name}: {problem}")
            else:
                by_place[place] = TableRow(run, _body(run))
            progress.end(run, by_place.get(place))

    try:
        async with progress, asyncio.TaskGroup() as group:
            for _ in range(min(options.jobs, len(waiting))):
                group.create_task(work())
    finally:
        rows += (by_place[place] for place in sorted(by_place))


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


async def _run(options: SimulateOptions, run: PlannedRun, progress: PoolProgress) -> str:
    """Run one in a process. Returns why it has no result, "" if it has one."""
    mark_unfinished(run)
    run.result.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        *_command(options, run),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others
        limit=LINE_BYTES,
    )
    last: deque[str] = deque(maxlen=KEPT_LINES)
    try:
        async for line in _lines(process):
            last.append(line)
            progress.update(run, line)
        code = await process.wait()
    except asyncio.CancelledError:
        await _stop(process)
        raise
    if run.result.is_file():  # a run that is not valid has one as well, and its row says so
        if run.fields and _body(run)["valid"]:
            mark_finished(run)
        return ""
    return _reason(last) or f"its process ended with code {code}"


def _command(options: SimulateOptions, run: PlannedRun) -> list[str]:
    policy = run.simulation.policy
    name = f"{policy.policy}+{policy.window}" if policy.window else policy.policy
    given = [run.file, "--only", f"{name}:{policy.k}", "--out", run.folder, "--jobs", 1]
    for option, value in (
        ("--profile", options.profile),
        ("--seed", options.seed),
        ("--settle", options.settle_s),
        ("--measure", options.measure_s),
    ):
        given += [option, value] if value else []
    given += ["--trace"] if options.trace else []
    return [sys.executable, "-m", "cli.main", "simulate", *map(str, given)]


async def _lines(process: asyncio.subprocess.Process) -> AsyncIterator[str]:
    if process.stderr is None:
        raise CommandError("a simulation's messages cannot be read")
    async for line in process.stderr:
        if text := line.decode("utf-8", "replace").rstrip():
            yield text


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


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
