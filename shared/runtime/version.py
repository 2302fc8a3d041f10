"""The version of Outrider: that of the installed package, from pyproject.toml."""

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

UNKNOWN = "unknown (not installed)"


def outrider_version() -> str:
    """The installed version, as in "0.1.0"; UNKNOWN where the code runs without an installation."""
    try:
        return version("outrider")
    except PackageNotFoundError:
        return UNKNOWN


def add_version_option(app: typer.Typer, program: str) -> None:
    """Give a command line `--version`, which prints the program's name and version and exits."""

    def show(is_given: bool) -> None:
        if is_given:
            print(f"{program} {outrider_version()}")
            raise typer.Exit

    @app.callback()
    def _options(
        _version: Annotated[
            bool, typer.Option("--version", callback=show, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None:
        pass
