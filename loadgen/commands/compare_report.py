"""`loadgen compare` and `loadgen report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadgen.commands.console import show_comparison
from loadgen.commands.exit import cli_errors
from loadgen.report.page import build
from loadgen.results.comparison import compare as compare_results
from loadgen.results.result_reader import ReportError, read_all


def compare(
    first: Annotated[Path, typer.Argument(help="A result of `loadgen run`.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
) -> None:
    """Two results side by side: second / first with 95 % intervals."""
    with cli_errors():
        mine, theirs = read_all([first, second])
        if not (mine.records and theirs.records):
            raise ReportError(
                "a comparison is of two results of `loadgen run`, with their requests beside them"
            )
    show_comparison(Console(), mine.label, theirs.label, compare_results(mine, theirs))


def report(
    results: Annotated[list[Path], typer.Argument(help="Of `run` or `sweep`; several are compared.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("report.html"),
) -> None:
    """One page to look at, all in one file; beside it a trace for Perfetto where the stack wrote its timeline."""
    with cli_errors():
        build(results, out)
    typer.echo(f"written to {out}")
