"""`loadgen fleet`."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop
from rich.status import Status

from loadgen.commands.console import fleet_status, show_fleet
from loadgen.commands.exit import EXPECTED_ERRORS, cli_errors, fail, progress_console, stop_on_signals
from loadgen.fleet import FleetSample, fleet_metrics, run_fleet
from loadgen.metrics.cell_history import CellHistory
from loadgen.results.output import check_output, keep
from loadgen.results.result_file import write_result
from loadgen.run.drive import RunState
from loadgen.run.options import RunOptions
from loadgen.run.plan import INPUT_ERRORS, OptionError, endpoint
from shared.runtime import logs
from shared.runtime.service import collect_seldom
from shared.scenario.scenario import read_scenario


def fleet(
    scenario: Annotated[
        Path, typer.Argument(help="File of devices, links and speeds, such as scenarios/*.yaml.")
    ],
    broker: Annotated[str, typer.Option(help="Broker URL; empty: that of the stack that runs here.")] = "",
    recordings: Annotated[
        Path | None,
        typer.Option(help="Texts of the target, recorded by `outrider bench policies`, for a real verifier."),
    ] = None,
    verify_ms: Annotated[
        float, typer.Option(min=0.001, help="The scenario's time unit `verify`, in ms.")
    ] = 40.0,
    seconds: Annotated[float | None, typer.Option(min=1, help="Duration; default: until Ctrl-C.")] = None,
    out: Annotated[Path, typer.Option(help="Result file, with a sample per second.")] = Path(
        ".outrider/fleet.json"
    ),
) -> None:
    """Emulate edge devices in one process: each is a draft worker with its own link.

    Without --recordings drafts are modelled, for use with a modelled verifier:
    `outrider up --modelled --draft-workers 0`.
    """
    collect_seldom()
    uvloop.run(_fleet(scenario, broker or endpoint(RunOptions()).broker, recordings, verify_ms, seconds, out))


async def _fleet(
    scenario: Path, broker: str, recordings: Path | None, verify_ms: float, seconds: float | None, out: Path
) -> None:
    console, state = progress_console(), RunState()
    with cli_errors():
        check_output(out)
        if not broker:
            raise OptionError("no stack runs here: give its broker URL with --broker")
        described = read_scenario(scenario)
        devices = described.fleet(verify_ms)
        cells = described.cells_of(devices)
        logs.configure("warning", "console", role="loadgen")
        stop_on_signals(state)
    loop, samples, failure = asyncio.get_running_loop(), list[FleetSample](), ""
    histories = {name: CellHistory(cell, loop.time()) for name, cell in cells.items()}
    with Status(f"{len(devices)} devices join", console=console) as status:

        def on_sample(sample: FleetSample) -> None:
            samples.append(sample)
            for history in histories.values():
                history.look(loop.time())
            status.update(fleet_status(sample))

        try:
            await run_fleet(devices, recordings, broker, state.stop, seconds, cells, on_sample)
        except (*EXPECTED_ERRORS, *INPUT_ERRORS) as error:  # the samples so far are kept
            failure = str(error)
    if not samples:
        fail(failure or "ended before the first sample")
    config = {"scenario": str(scenario), "devices": len(devices), "recordings": str(recordings or "")}
    metrics = fleet_metrics(samples)
    body: dict[str, Any] = {"figures": metrics, "looks": [asdict(sample) for sample in samples]}
    if histories:
        body["cells"] = {name: history.body() for name, history in histories.items()}
    with cli_errors():
        kept = keep(out, lambda path: write_result(path, "fleet", config, body))
    show_fleet(console, metrics, kept)
    if failure:
        fail(failure)
