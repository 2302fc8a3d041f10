"""`outrider record`: its options. Heavy libraries are imported inside the command."""

from typing import Annotated

import typer

from cli.command.cli_errors import cli_errors
from cli.command.options import STATE, OutFile


def record(
    target: Annotated[
        str, typer.Option(help="Target: name of a fetched pair, hub name, folder or .gguf.")
    ] = "smollm2",
    draft: Annotated[str, typer.Option(help="Draft model (.gguf); empty = the pair's own.")] = "",
    dtype: Annotated[str, typer.Option(help="Of the target: auto, float32 or bfloat16.")] = "auto",
    tokens: Annotated[int, typer.Option(min=8, max=900, help="Tokens of each text, at most.")] = 192,
    temperatures: Annotated[
        str, typer.Option(help="Sampling temperatures, a text of every prompt each.")
    ] = "0,1",
    out: OutFile = STATE / "record.json",
) -> None:
    """Record where the draft model agrees with the target, so that a simulation can replay it exactly.

    The target writes texts alone. Along each, the draft model is asked at every position with all tokens before it:
    is its token the target's, is its second choice, how sure is it, and how sure of what follows a wrong token. Under
    shared noise this replays every draft length of every policy. `recording: FILE` in a scenario's devices uses it.
    """
    from cli.record.run import RecordOptions, run_record

    with cli_errors():
        run_record(RecordOptions(target, draft, dtype, tokens, temperatures, out))
