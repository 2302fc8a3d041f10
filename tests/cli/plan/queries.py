"""Queries to `outrider plan`, through the command line."""

import json
from typing import Any

from typer.testing import CliRunner, Result

from cli.main import app


def outrider_plan(query: object) -> Result:
    """The command with a query on its input."""
    return CliRunner().invoke(app, ["plan"], input=json.dumps(query))


def answer(query: object) -> dict[str, Any]:
    """The answer to a query, which must be valid."""
    done = outrider_plan(query)
    assert done.exit_code == 0, done.stderr
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan
