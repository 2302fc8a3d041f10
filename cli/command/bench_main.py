"""Entry point of benchmarks that are run as modules."""

import sys
from collections.abc import Callable
from typing import NoReturn


def bench_main(run: Callable[[], object]) -> NoReturn:
    """Run a benchmark and exit: an expected error is one line and code 1, Ctrl-C is code 130."""
    import typer  # on use: the verifier's benchmarks also import this where only torch is installed

    from cli.command.cli_errors import cli_errors, run_app

    def app() -> None:
        try:
            with cli_errors():
                run()
        except typer.Exit as end:
            sys.exit(end.exit_code)

    run_app("outrider", app)
    sys.exit(0)
