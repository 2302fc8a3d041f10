"""The `outrider` command. Heavy libraries are imported inside the command that needs them, so that --help is quick."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.bench.pipeline.commands import pipeline
from cli.calibrate.commands import calibrate
from cli.command.cli_errors import cli_errors, fail, run_app
from cli.command.options import STATE, ApiKey, Prompt, StateDir, Temperature, Threads, Url
from cli.demo.commands import demo
from cli.devices.commands import app as devices_app
from cli.devices.commands import join
from cli.doctor.commands import doctor
from cli.models.commands import app as models_app
from cli.plan.commands import EPILOG, paper_app, plan
from cli.race.commands import app as bench_app
from cli.record.commands import record
from cli.simulate.commands import simulate
from cli.stack.commands import down, up
from cli.train_awc.commands import train_awc
from cli.validate.commands import validate
from shared.planning.bandwidth_rules import RULES
from shared.runtime.stack_state import read_state
from shared.runtime.version import add_version_option

app = typer.Typer(
    help="Outrider: serve a large language model from edge devices and one core by distributed speculative decoding.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stderr.isatty() else None,  # in a log an error is one line, not a box
)
add_version_option(app, "outrider")
app.add_typer(models_app, name="models", help="Fetch, list, add, requantize, verify and remove models.")
app.add_typer(paper_app, name="paper", help="Published results beside ours, from the papers' own models.")
app.add_typer(devices_app, name="devices", help="Devices on other machines that may join: add, list, remove.")
app.add_typer(bench_app, name="bench", help="Measure: policies on scenarios, methods over a pipeline.")
bench_app.command()(pipeline)
app.command()(up)
app.command()(down)
app.command()(join)
app.command()(demo)
app.command()(doctor)
app.command()(calibrate)
app.command()(record)
app.command()(simulate)
app.command()(train_awc)
app.command()(validate)
app.command(epilog=EPILOG)(plan)


@app.command()
def status(
    url: Url = "",
    api_key: ApiKey = "",
    once: Annotated[bool, typer.Option(help="Print once and exit.")] = False,
    state: StateDir = STATE,
) -> None:
    """Show a live table of devices, sessions, the verifier's busy share and the policy."""
    from cli.status import run_status

    _run(run_status(_url(url, state), api_key, once=once, state_dir=None if url else state))


@app.command()
def chat(
    prompt: Prompt = "",
    max_tokens: Annotated[int, typer.Option(min=1, max=1 << 20, help="Maximum tokens of an answer.")] = 256,
    temperature: Temperature = 0.0,
    url: Url = "",
    api_key: ApiKey = "",
    state: StateDir = STATE,
) -> None:
    """Chat with the target. Tokens that a device drafted and the target accepted are coloured."""
    from cli.chat import run_chat

    with cli_errors():
        run_chat(_url(url, state), api_key, prompt, max_tokens, temperature)


@app.command()
def policy(
    name: Annotated[str, typer.Argument(help="New policy; empty = print the current one.")] = "",
    k: Annotated[int, typer.Option(min=0, max=64, help="Draft length; 0 = the policy's own.")] = 0,
    verifier_threads: Threads = 0,
    draft_threads: Threads = 0,
    window: Annotated[
        str, typer.Option(help="Controller of draft lengths; none = the policy; empty = unchanged.")
    ] = "",
    bandwidth: Annotated[
        str,
        typer.Option(
            help=f"How radio cells are shared: {', '.join(RULES)} (policy: as it says); empty = unchanged."
        ),
    ] = "",
    url: Url = "",
    api_key: ApiKey = "",
    state: StateDir = STATE,
) -> None:
    """Print or change the policy. A change takes effect with each session's next round."""
    from cli.admin import Admin

    async def run() -> None:
        async with Admin(_url(url, state), api_key) as admin:
            if name:
                await admin.set_policy(name, k, verifier_threads, draft_threads, window, bandwidth)
            print(" ".join(f"{key}={value}" for key, value in (await admin.policy()).items()))

    _run(run())


def _url(url: str, state: Path) -> str:
    if url:
        return url
    running = read_state(state)
    if running is None:
        fail(f"no stack is running ({state}/up.json); start one with `outrider up`, or give --url")
    return running.url


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run `work`; expected errors exit with one line."""
    with cli_errors():
        asyncio.run(work)


def main() -> None:
    """Entry point of the `outrider` command."""
    run_app("outrider", app)


if __name__ == "__main__":
    main()
