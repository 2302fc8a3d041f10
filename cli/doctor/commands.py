"""`outrider doctor`. Heavy libraries load inside the command that needs them."""

from typing import Annotated

import typer

from cli.command.cli_errors import cli_errors
from cli.command.options import STATE, ProfileFile


def doctor(
    target: Annotated[str, typer.Option(help="Pair to look at.")] = "smollm2",
    quick: Annotated[bool, typer.Option(help="Only look; measure nothing.")] = False,
    out: ProfileFile = STATE / "profile.json",
) -> None:
    """Check models, vocabularies and broker; then measure whether speculation pays on this machine."""
    from cli.doctor.run import run_doctor

    with cli_errors():
        raise typer.Exit(run_doctor(target, quick=quick, out=out))
