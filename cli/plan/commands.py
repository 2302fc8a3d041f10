"""`outrider plan` and `outrider paper`. Heavy libraries are loaded inside the command that needs them."""

from pathlib import Path
from typing import Annotated

import typer

from cli.command.cli_errors import fail
from cli.command.options import STATE, OutFolder

EXAMPLE_QUERY = (
    '{"server": {"law": "packed", "beta_ms": 30, "per_token_ms": 1.4, "per_context_ms": 0.001, "memory_bytes": 1e9, '
    '"kv_bytes_per_token": 46080}, "users": [{"id": "u1", "alpha": 0.78, "prefix": 512, "draft_ms_per_token": 12, '
    '"comm_ms": 3}], "objective": "throughput", "solver": "auto"}'
)
EPILOG = f"A query: {EXAMPLE_QUERY}"

paper_app = typer.Typer(no_args_is_help=True)


def plan(
    query: Annotated[str, typer.Argument(help="File with the query in JSON; - = stdin.")] = "-",
    profile: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="The file of `outrider calibrate`, or any JSON with a `server`."),
    ] = None,
) -> None:
    """Plan batches and draft lengths for the users and the server of a query; prints JSON.

    law "packed" takes beta_ms, per_token_ms, per_context_ms, memory_bytes, kv_bytes_per_token; "padded" the paper's
    layers, hidden, ffn, c (ms per operation), beta_ms, memory_bytes. objective: throughput, weighted or fair. solver:
    auto, outrider, exact (few users) or paper.

    objective "latency" plans bandwidth too: cells (id, bandwidth_hz, sharing: joint, minmax, weighted or uniform), a
    drafter (c1_ms, c2_ms, layers, hidden, ffn) or the users' draft_ms_per_token, and for each user output, cell, eta or
    snr, bits. objective "goodput" plans the uploads of drafts: cells (id, bandwidth_hz), and for each user
    draft_ms_per_token, cell, eta or snr, bits_per_token. docs/hetero.md has an example of both.
    """
    import json

    from cli.plan.query import plan_source
    from shared.runtime.errors import words

    try:
        print(json.dumps(plan_source(query, profile), indent=2))
    except (ValueError, OSError) as error:
        fail(f"plan: {words(error)}")


@paper_app.command("dip-sd")
def paper_dip_sd(
    out: OutFolder = STATE / "paper",
) -> None:
    """DiP-SD's headline ratios, published and ours, and sweeps over users and acceptance."""
    from cli.plan.paper_dip_sd import run

    run(out)


@paper_app.command("hetero")
def paper_hetero(
    out: OutFolder = STATE / "paper",
    bits_per_token: Annotated[float, typer.Option(min=0.0, max=1e9, help="Upload of an input token.")] = 16.0,
    path_loss: Annotated[float, typer.Option(min=0.0, max=300.0, help="Path loss at 1 km in dB.")] = 128.1,
    path_loss_slope: Annotated[
        float, typer.Option(min=0.0, max=200.0, help="Path loss of a decade in dB.")
    ] = 37.6,
    c1_scale: Annotated[float, typer.Option(min=1e-6, max=1e6, help="Factor on ms per operation.")] = 1.0,
    c2_scale: Annotated[float, typer.Option(min=0.0, max=1e6, help="Factor on ms per pass.")] = 1.0,
    drafter_scale: Annotated[
        float, typer.Option(min=1e-6, max=1e6, help="Factor on both, of the draft node.")
    ] = 1.0,
    draws: Annotated[int, typer.Option(min=1, max=1000, help="Random cohorts of each point.")] = 5,
) -> None:
    """A radio cell with batches, draft length and bandwidth planned together: published reductions and ours.

    Options are what the paper leaves open; a table shows for which of them its reductions hold.
    """
    from cli.plan.paper_hetero import run
    from shared.planning.latency.paper_cell import Setting
    from shared.runtime.errors import words

    setting = Setting(bits_per_token, path_loss, path_loss_slope, c1_scale, c2_scale, drafter_scale)
    try:
        run(out, setting, draws)
    except (ValueError, OSError) as error:
        fail(f"paper hetero: {words(error)}")


@paper_app.callback()
def _paper() -> None:
    """Published figures of papers beside ours, from the papers' own models."""
