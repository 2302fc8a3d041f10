"""`outrider demo`. Heavy libraries load inside the command that needs them."""

import asyncio
from typing import Annotated

import typer

from cli.command.cli_errors import cli_errors
from cli.command.options import STATE, OutFile, StateDir
from cli.stack.commands import pair_of


def demo(
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Interleaved repeats of every policy.")] = 3,
    users: Annotated[int, typer.Option(min=1, max=32, help="Concurrent users.")] = 8,
    tokens: Annotated[int, typer.Option(min=2, max=1024, help="Tokens each.")] = 64,
    out: OutFile = STATE / "demo.json",
    state: StateDir = STATE,
) -> None:
    """Eight users, with drafts from this machine and then from emulated devices: text, a table, every text checked."""
    from cli.demo.run import Demo, run_demo

    folder, draft_file, name = pair_of("smollm2", "")
    with cli_errors():
        asyncio.run(run_demo(Demo(folder, draft_file, name, users, tokens, repeats, out, state)))
