"""`python -m cli.models`: the commands of `outrider models`, as in `python -m cli.models fetch smollm2`."""

from functools import partial

from cli.command.cli_errors import run_app
from cli.models.commands import app

if __name__ == "__main__":
    run_app("outrider models", partial(app, prog_name="outrider models"))
