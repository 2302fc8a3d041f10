"""`outrider bench pipeline`: its options. The simulator is imported inside the command."""

from pathlib import Path
from typing import Annotated, Final

import typer

from cli.command.cli_errors import cli_errors
from cli.command.options import STATE, writable

TOKENS: Final = 2500
LIVE_TOKENS: Final = 100


def pipeline(
    stages: Annotated[str, typer.Option(help="Machines that the target's layers are split over.")] = "4",
    law: Annotated[
        str, typer.Option(help="Of the machines' times: edge, cpu, gpu, or FILE.json with a law of your own.")
    ] = "edge",
    hop_ms: Annotated[str, typer.Option(help="Time of a message between neighbours.")] = "0.3",
    p1: Annotated[
        str, typer.Option(help="Mean probability that the drafter's first candidate is right.")
    ] = "0.75",
    users: Annotated[str, typer.Option(help="Users at the same time.")] = "1",
    methods: Annotated[str, typer.Option(help="Methods, see below.")] = "a,b,c,d,e,f,h,c_star",
    seed: Annotated[int, typer.Option(min=0, max=9999, help="Of the texts.")] = 1,
    tokens: Annotated[
        int | None,
        typer.Option(min=100, max=10**6, help="Of each of three runs.", show_default="2500, --live 100"),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Also over processes, with a real clock.")] = False,
    json_file: Annotated[
        Path, typer.Option("--json", dir_okay=False, callback=writable, help="Result file.")
    ] = STATE / "pipeline.json",
    picture: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw the ratios, and a timeline of the stages.")
    ] = None,
) -> None:
    """Compare methods of decoding when the target is split over a pipeline of machines, on virtual time.
    With --live also over processes of this machine, one a stage, that sleep instead of computing.

    Lists are separated by commas; all their combinations are cells of the result. Cells that the result file has
    already are not measured again. Every text is compared with the target's own.

    Methods: a autoregressive; b the best chain, verified once; c 80 drafted nodes in N + 1 pieces; c_star the best
    tree, verified once; d pieces in lock-step, pruned; e the same, expanded (FlowSpec); e_best the same, best nodes
    first; f asynchronous trees; h asynchronous chains. For several users a, b, c and c_star are batched, in groups
    where that is faster, f and h mix users in a piece, and d and e serve one user after the other.

    A law file has beta_ms and per_token_ms (a list each, a number per stage), hop_ms and draft_ms; it may have
    draft_row_ms, wire_ms, head_ms and head_row_ms.

    Example: outrider bench pipeline --stages 2,4,7 --hop-ms 0.3,3,10 --law edge,cpu --methods c,c_star,f
    """
    from cli.bench.pipeline.bench import PipelineBench, run_bench
    from cli.bench.pipeline.options import cells, names
    from simulator.pipeline.methods.registry import METHODS

    with cli_errors():
        planned = cells(law, stages, hop_ms, p1, users)
        chosen = names("methods", methods, list(METHODS))
        tokens = tokens or (LIVE_TOKENS if live else TOKENS)
        run_bench(PipelineBench(planned, chosen, seed, tokens, json_file, picture, live))
