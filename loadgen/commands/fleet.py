"""`loadgen fleet`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.status import Status

from loadgen.commands.console import fleet_status, show_fleet
from loadgen.commands.exit import OURS, cli_errors, end_on_signals, fail, progress_console
from loadgen.fleet import FleetSample, fleet_figures, run_fleet
from loadgen.results.output import check_output, keep
from loadgen.results.result_file import write_result
from loadgen.run.drive import RunState
from loadgen.run.options import RunOptions
from loadgen.run.plan import WRONG, OptionError, endpoint
from shared.runtime import logs
from shared.runtime.service import collect_seldom
from shared.scenario.scenario import read_scenario


def fleet(
    scenario: Annotated[Path, typer.Argument(help="Devices, links and speeds; scenarios/*.yaml are some.")],
    broker: Annotated[str, typer.Option(help="Its URL; empty = that of the stack that runs here.")] = "",
    recordings: Annotated[
        Path | None,
        typer.Option(
            help="What the target said (`outrider bench policies` records it), for a real verifier."
        ),
    ] = None,
    verify_ms: Annotated[float, typer.Option(min=0.001, help="The scenario's unit `verify`.")] = 40.0,
    seconds: Annotated[float | None, typer.Option(min=1, help="For so long; else until Ctrl-C.")] = None,
    out: Annotated[Path, typer.Option(help="What was seen, second by second.")] = Path(
        ".outrider/fleet.json"
    ),
) -> None:
    """Stand in for edge devices: each a draft worker's own shell with its own link, all in this process.

    Without recordings drafts are modelled, which goes with a modelled verifier:
    `outrider up --modelled --draft-workers 0`.
    """
    collect_seldom()
    uvloop.run(_fleet(scenario, broker or endpoint(RunOptions()).broker, recordings, verify_ms, seconds, out))


async def _fleet(
    scenario: Path, broker: str, recordings: Path | None, verify_ms: float, seconds: float | None, out: Path
) -> None:
    console, over = progress_console(), RunState()
    with cli_errors():
        check_output(out)
        if not broker:
            raise OptionError("no stack runs here: give the broker's URL with --broker")
        devices = read_scenario(scenario).fleet(verify_ms)
        logs.configure("warning", "console", role="loadgen")
        end_on_signals(over)
    looks, failure = list[FleetSample](), ""
    with Status(f"{len(devices)} devices join", console=console) as status:

        def seen(look: FleetSample) -> None:
            looks.append(look)
            status.update(fleet_status(look))

        try:
            await run_fleet(devices, recordings, broker, over.over, seconds, seen)
        except (*OURS, *WRONG) as error:  # what was seen by then is kept
            failure = str(error)
    if not looks:
        fail(failure or "ended before anything was seen")
    config = {"scenario": str(scenario), "devices": len(devices), "recordings": str(recordings or "")}
    figures = fleet_figures(looks)
    body = {"figures": figures, "looks": [asdict(look) for look in looks]}
    with cli_errors():
        kept = keep(out, lambda path: write_result(path, "fleet", config, body))
    show_fleet(console, figures, kept)
    if failure:
        fail(failure)
