"""Window controllers over round-trip times, loads and recordings.

    python -m cli.bench.windows [--seeds 1,2,3] [--jobs 2]         # goes on where it was stopped

Every controller serves the same requests with the same luck in every cell, batched as by fixed-k: all users of a
verifier are verified together. Load 1 is the rate that is served with drafts of four tokens and a user on every device
by the verifier's law, at the cell's round-trip time. Speed is one user's tokens per second after the first (1 / TPOT),
throughput that of all users; regret is the share of the oracle's figure that a controller misses.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from cli.bench.windows.cells import BASELINE, COMPARED, RECORDINGS, SCENARIO, CellRun, Grid
from cli.bench.windows.comparison import as_rows, results_of, summary
from cli.bench.windows.finish import finish
from cli.bench.windows.picture import draw
from cli.command.bench_main import bench_main
from cli.command.errors import CommandError
from cli.command.options import STATE
from cli.simulate.options import SimulateOptions
from loadgen.measuring.result import write_measurement
from loadgen.measuring.table import table

QUICK_S: Final = 6.0  # of arrivals
COLUMNS: Final = {
    "": "{controller}",
    "speed": "{speed:.3f}",
    "least": "{speed_least:.3f}",
    "regret": "{speed_regret:.1%}",
    "most": "{speed_regret_most:.1%}",
    "throughput": "{throughput:.3f}",
    "least ": "{throughput_least:.3f}",
    "regret ": "{throughput_regret:.1%}",
    "most ": "{throughput_regret_most:.1%}",
}


def main(
    recording: Annotated[
        list[Path] | None,
        typer.Option(exists=True, dir_okay=False, help="Files of `outrider record`; default all."),
    ] = None,
    rtt: Annotated[str, typer.Option(help="Round-trip times of the links in ms.")] = "5,20,50,100,200",
    load: Annotated[str, typer.Option(help="Shares of the rate that saturates k = 4.")] = "0.3,0.7,1,1.2",
    controllers: Annotated[str, typer.Option(help="Window controllers.")] = ",".join(COMPARED),
    seeds: Annotated[str, typer.Option(help="Seeds; results are means over them.")] = "1,2",
    scenario: Annotated[Path, typer.Option(exists=True, dir_okay=False)] = SCENARIO,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time.")] = 1,
    quick: Annotated[bool, typer.Option(help="Seconds of arrivals only, for a look.")] = False,
    runs: Annotated[Path, typer.Option(help="Folder of the single runs.")] = STATE / "windows",
    out: Annotated[Path, typer.Option(help="Result file; the picture lies beside it.")] = STATE
    / "windows.json",
) -> None:
    """Compare window controllers over round-trip times, loads and recordings."""
    names = list(dict.fromkeys([BASELINE, *controllers.split(",")]))
    grid = Grid(
        scenario,
        recording or sorted(RECORDINGS.glob("*.json")),
        _numbers("rtt", rtt),
        _numbers("load", load),
        [int(seed) for seed in _numbers("seeds", seeds)],
        names,
        QUICK_S if quick else 0.0,
    )
    options = SimulateOptions([], jobs=jobs, out=runs)
    planned = grid.runs(options)
    try:
        finish([run.run for run in planned], options)
    finally:
        report(grid, planned, out)


def report(grid: Grid, planned: Sequence[CellRun], out: Path) -> None:
    """Write and print what is said of the cells that are finished. Raises OSError."""
    results = results_of(planned)
    if not results:
        return
    rows = [summary(results, name) for name in grid.controllers]
    config: dict[str, Any] = {
        "scenario": grid.scenario.name,
        "recordings": [path.name for path in grid.recordings],
        "seeds": grid.seeds,
        "duration": grid.duration,
    }
    cells = len({run.cell for run in planned})
    body = {"summary": rows, "cells": as_rows(results), "cells_missing": cells - len(results)}
    write_measurement(out, "windows", config, body)
    draw(out.with_suffix(".png"), results, grid.controllers)
    console = Console()
    title = f"over k = 4, and missed of the oracle's, {len(results)} of {cells} cells"
    console.print(table(rows, COLUMNS, title))
    console.print(f"written to {out} and {out.with_suffix('.png')}", soft_wrap=True)


def _numbers(option: str, text: str) -> list[float]:
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        raise CommandError(f"--{option} {text!r}: give numbers, separated by commas") from None
    if any(number <= 0 for number in numbers):
        raise CommandError(f"--{option} {text!r}: give numbers above 0")
    return numbers


if __name__ == "__main__":
    bench_main(main)
