"""The `loadgen` command."""

import typer

from loadgen.commands.ceiling import measure_ceiling
from loadgen.commands.compare_report import compare, report
from loadgen.commands.fleet import fleet
from loadgen.commands.mock import mock_server
from loadgen.commands.recover import recover_run
from loadgen.commands.run import run
from loadgen.commands.sweep import sweep
from loadgen.run.options import command
from shared.runtime.version import add_version_option

app = typer.Typer(
    help="Load generator for OpenAI-compatible endpoints. Latencies count from the scheduled arrival.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
add_version_option(app, "loadgen")
app.command()(command(run))
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(sweep)
app.command()(compare)
app.command()(report)
app.command("recover")(recover_run)
app.command()(fleet)
app.command("mock-server")(mock_server)
app.command("ceiling")(measure_ceiling)


def main() -> None:
    """Entry point."""
    app()


if __name__ == "__main__":
    main()
