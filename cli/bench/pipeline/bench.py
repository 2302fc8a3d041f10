"""Runs the cells of `outrider bench pipeline`, keeps what is finished, and prints a table."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from cli.bench.pipeline.measure import RATIO_NAMES, TEXTS, measure
from cli.bench.pipeline.options import Cell
from loadgen.measuring.progress import Steps
from loadgen.measuring.result import command
from loadgen.measuring.table import table
from loadgen.results.result_file import write_result

KIND: Final = "pipeline"
PLACE: Final = ("mode", "law", "beta_ms", "per_token_ms", "stages", "hop_ms", "p1", "users", "seed")


@dataclass(frozen=True, slots=True)
class PipelineBench:
    """What is measured, and where the result goes. live: over processes as well as simulated."""

    cells: Sequence[Cell]
    methods: Sequence[str]
    seed: int
    tokens: int
    file: Path
    picture: Path | None
    live: bool = False


def run_bench(bench: PipelineBench) -> None:
    """Measure the cells one by one. Each is written when it is finished, so that Ctrl-C loses one.

    Raises OSError, and with live ProcessFailed.
    """
    config = {"methods": list(bench.methods), "seed": bench.seed, "tokens": bench.tokens}
    known = {place(cell): cell for cell in finished(bench.file, config)}
    console, found = Console(), list(known.values())
    modes = {"simulated": 1, "live": TEXTS} if bench.live else {"simulated": 1}  # and ticks of a method
    with Steps(console) as steps:
        step = steps.step("steps", len(bench.cells) * len(bench.methods) * sum(modes.values()))
        for cell, mode in product(bench.cells, modes):
            if place({"mode": mode, **cell.place(bench.seed)}) in known:
                for _ in range(modes[mode] * len(bench.methods)):
                    step.advance()
                continue
            found.append(measuring(mode)(cell, bench.methods, bench.seed, bench.tokens, step.advance))
            body = {"command": command(), "cells": found}
            write_result(bench.file, KIND, config, body, measured=any(one["mode"] == "live" for one in found))
    rows = [row(cell) for cell in found]
    console.print(table(rows, columns("{%s:.4g}", bench.methods), "tokens/s of all users"))
    console.print(table(rows, columns("{%s:.2f}", RATIO_NAMES), "ratios"))
    console.print(f"written to {bench.file}", soft_wrap=True)
    if bench.picture is not None:
        from cli.bench.pipeline.picture import draw

        draw(bench.picture, found, bench.cells[0], bench.seed)
        console.print(f"drawn in {bench.picture}", soft_wrap=True)


def measuring(mode: str) -> Callable[..., dict[str, Any]]:
    """What measures a cell. Torch is loaded for a live one only."""
    if mode == "live":
        from cli.bench.pipeline.live.measure_live import measure_live

        return measure_live
    return measure


def finished(path: Path, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Cells of an earlier run with the same options."""
    try:
        earlier: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = (earlier["kind"], earlier["config"]) == (KIND, config)
        cells: list[dict[str, Any]] = earlier["cells"] if same else []
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return cells


def place(cell: Mapping[str, Any]) -> str:
    """What a result is of, as one text."""
    return repr([cell[name] for name in PLACE])


def row(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the tables: law, stages, hop, p1 and users, then rates and ratios."""
    rates = {name: one["tokens_per_s"] for name, one in cell["methods"].items()}
    label = "live " if cell["mode"] == "live" else ""
    label += f"{cell['law']} {cell['stages']} {cell['hop_ms']:g} {cell['p1']:g} {cell['users']}"
    return {"cell": label, **rates, **cell["ratios"]}


def columns(form: str, names: Sequence[str]) -> dict[str, str]:
    """Columns by heading. form: of a figure, with %s for its name."""
    return {"law N hop p1 U": "{cell}", **{name: form % name for name in names}}
