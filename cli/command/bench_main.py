"""Entry point of benchmarks that are run as modules."""

from collections.abc import Callable


def bench_main(measure: Callable[..., None]) -> None:
    """Run a benchmark as a command: its parameters are the options, its docstring is the help.

    An expected error is one line and exit code 1, Ctrl-C is code 130.
    """
    import typer  # on use: the verifier's benchmarks also import this where only torch is installed

    from cli.command.cli_errors import cli_errors, run_app

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(cli_errors()(measure))
    run_app("outrider", app)
