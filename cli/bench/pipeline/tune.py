"""Tunes the one-shot trees of `outrider bench pipeline`: methods b and c_star.

    python -m cli.bench.pipeline.tune                # writes simulator/pipeline/tuned.json, in some minutes

A grid of sizes, depths, widths, pieces and groups of users, on seeds that no measurement uses.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.bench.pipeline.options import cells
from cli.command.bench_main import bench_main
from loadgen.measuring.progress import Steps
from loadgen.results.output import replacing
from simulator.pipeline.laws import LAWS
from simulator.pipeline.tuned import FILE, as_cell


def main(
    law: Annotated[str, typer.Option(help="Laws by name.")] = ",".join(LAWS),
    stages: Annotated[str, typer.Option(help="Machines of a pipeline.")] = "2,4,7",
    hop_ms: Annotated[str, typer.Option(help="Time of a message between neighbours.")] = "0.3,3,10",
    p1: Annotated[str, typer.Option(help="Mean probability of the first candidate.")] = "0.6,0.75,0.85",
    users: Annotated[str, typer.Option(help="With 4 stages, hops of 0.3 ms and p1 0.75.")] = "2,4,8,16",
    out: Annotated[Path, typer.Option(dir_okay=False, help="Data file.")] = FILE,
) -> None:
    """Tune one-shot trees for the cells of a grid."""
    planned = cells(law, stages, hop_ms, p1, "1") + cells(law, "4", "0.3", "0.75", users)
    found = []
    with Steps(Console()) as steps:
        step = steps.step("cells tuned", len(planned))
        for cell in planned:
            found.append(as_cell(cell.name, cell.law, cell.p1, cell.users))
            step.advance(f"{cell.name} {cell.users}")
    with replacing(out) as file:
        lines = ",\n".join(json.dumps(cell) for cell in found)
        file.write(f'{{"command": "python -m cli.bench.pipeline.tune", "cells": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    bench_main(main)
