"""`outrider bench policies`: its options. Heavy libraries are imported inside the command."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli.command.cli_errors import cli_errors
from cli.command.options import STATE, Measure, OutFolder, Settle, StateDir
from cli.stack.commands import pair_of

app = typer.Typer(no_args_is_help=True)


@app.command("policies")
def bench_policies(
    scenarios: Annotated[
        list[Path], typer.Argument(help="Scenario files, see scenarios/.", exists=True, dir_okay=False)
    ],
    target: Annotated[str, typer.Option(help="Target: name of a fetched pair or folder.")] = "smollm2",
    dtype: Annotated[str, typer.Option(help="Of the target: float32 or bfloat16.")] = "bfloat16",
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Interleaved repeats of every policy.")] = 5,
    settle: Settle = 0,
    measure: Measure = 0,
    baselines: Annotated[
        bool, typer.Option("--rivals/--no-rivals", help="Run transformers' generate as well.")
    ] = True,
    only: Annotated[
        str,
        typer.Option(
            metavar="POLICY,...", help="These of the scenario's, as POLICY or POLICY+WINDOW; empty = all."
        ),
    ] = "",
    profile: Annotated[
        Path, typer.Option(dir_okay=False, help="Of `outrider calibrate`, same target and dtype.")
    ] = STATE / "profile.json",
    out: OutFolder = STATE / "bench",
    state: StateDir = STATE,
) -> None:
    """Compare policies on the same services: real broker and verifier, emulated devices, every text checked.

    Ratios are taken within each repeat and given with their 95 % intervals.
    """
    from cli.race.policy_bench import PolicyBenchOptions, run_policies

    folder, _, name = pair_of(target, "")
    kept = tuple(policy.strip() for policy in only.split(",") if policy.strip())
    options = PolicyBenchOptions(
        scenarios, target, dtype, repeats, settle, measure, baselines, profile, out, state / "bench", kept
    )
    with cli_errors():
        asyncio.run(run_policies(options, folder, name))


@app.callback()
def _bench() -> None:
    """Measure on this machine."""
