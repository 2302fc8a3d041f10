"""`outrider doctor`: its options. Heavy libraries are imported inside the command."""

from typing import Annotated

import typer

from cli.command.cli_errors import cli_errors
from cli.command.options import STATE, ProfileFile


def doctor(
    target: Annotated[str, typer.Option(help="Pair of models to check.")] = "smollm2",
    quick: Annotated[bool, typer.Option(help="Check only; measure nothing.")] = False,
    out: ProfileFile = STATE / "profile.json",
) -> None:
    """Check llama.cpp, models, vocabularies and broker; then measure whether speculation pays on this machine."""
    from cli.doctor.run import run_doctor

    with cli_errors():
        raise typer.Exit(run_doctor(target, quick=quick, out=out))
