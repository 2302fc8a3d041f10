"""`loadgen recover`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadgen.commands.console import show
from loadgen.commands.exit import cli_errors
from loadgen.run.recovery import recover


def recover_run(
    out: Annotated[Path, typer.Argument(help="The --out of the run.")],
) -> None:
    """Make a partial result of the requests that a killed run had finished."""
    with cli_errors():
        outcome = recover(out)
    show(Console(), outcome, out)
