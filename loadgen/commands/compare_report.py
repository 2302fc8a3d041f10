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
    second: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Compare two results: second / first with 95 % intervals."""
    with cli_errors():
        before, after = read_all([first, second])
        if not (before.records and after.records):
            raise ReportError("compare needs two results of `loadgen run`, with their requests beside them")
    show_comparison(Console(), before.label, after.label, compare_results(before, after))


def report(
    results: Annotated[list[Path], typer.Argument(help="Results of `run` or `sweep`; several are compared.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file.")] = Path("report.html"),
) -> None:
    """Write a self-contained HTML report, and a trace for Perfetto if the result has spans."""
    with cli_errors():
        build(results, out)
    typer.echo(f"written to {out}")
