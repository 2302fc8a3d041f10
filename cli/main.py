"""The `outrider` command. Heavy libraries load inside the command that needs them."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.cli_errors import leave, run_app, told
from cli.devices.commands import app as devices_app
from cli.models.commands import app as models_app
from cli.options import (
    STATE,
    ApiKey,
    JoinArgument,
    Measure,
    OutFile,
    OutFolder,
    ProfileFile,
    Prompt,
    Settle,
    StateDir,
    Temperature,
    Threads,
    Url,
)
from cli.stack.stack_commands import down, pair_of, up
from shared.runtime.version import outrider_version

app = typer.Typer(
    help="Outrider: serve a large language model from edge devices and one core by distributed speculative decoding.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich" if sys.stderr.isatty() else None,  # in a log an error is one line, not a box
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"outrider {outrider_version()}")
        raise typer.Exit


@app.callback()
def _outrider(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


app.add_typer(models_app, name="models", help="Fetch, list, add, requantize, verify and remove models.")
paper_app = typer.Typer(name="paper", no_args_is_help=True)
app.add_typer(paper_app, name="paper", help="Published figures from the papers' own models, beside ours.")

app.add_typer(devices_app, name="devices", help="Devices elsewhere that may join: add, list, remove.")

bench_app = typer.Typer(name="bench", no_args_is_help=True)
app.add_typer(bench_app, name="bench", help="Measure on this machine: policies on scenarios.")

QUESTION = (
    '{"server": {"law": "packed", "beta_ms": 30, "per_token_ms": 1.4, "per_context_ms": 0.001, "memory_bytes": 1e9, '
    '"kv_bytes_per_token": 46080}, "users": [{"id": "u1", "alpha": 0.78, "prefix": 512, "draft_ms_per_token": 12, '
    '"comm_ms": 3}], "objective": "throughput", "solver": "auto"}'
)


app.command()(up)
app.command()(down)


@app.command()
def join(
    url: JoinArgument,
    name: Annotated[str, typer.Option(help="Of this device, as given to `outrider devices add`.")],
    token_file: Annotated[
        Path, typer.Option(dir_okay=False, help="File with what `outrider devices add` printed.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Draft model (.gguf); by default the core's own, fetched once."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads to draft with.")] = 1,
    sessions: Annotated[int, typer.Option(min=1, max=1024, help="Users to draft for at once.")] = 8,
    health_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of /healthz and /metrics on 127.0.0.1; 0 = any.")
    ] = 0,
) -> None:
    """Draft for a core elsewhere, with this machine's processor, until Ctrl-C. Reconnects for ever.

    The line for it comes from `outrider devices add NAME` beside the core. Ends by itself only when the core does not
    take it: 2 = a file or an option is wrong, 3 = refused (credential, protocol version, vocabulary), 4 = a newer
    device has its name.
    """
    from cli.devices.join import Joining, run_join
    from shared.runtime.service import main as serve

    serve("outrider join", run_join(Joining(url, name, token_file, model, threads, sessions, health_port)))


@app.command()
def status(
    url: Url = "",
    api_key: ApiKey = "",
    once: Annotated[bool, typer.Option(help="Print once and leave.")] = False,
    state: StateDir = STATE,
) -> None:
    """Live table: devices, sessions, the verifier's busy share, the policy."""
    from cli.status import run_status

    _run(run_status(_url(url, state), api_key, once=once, state_dir=None if url else state))


@app.command()
def chat(
    prompt: Prompt = "",
    max_tokens: Annotated[int, typer.Option(min=1, max=1 << 20, help="Tokens of an answer at most.")] = 256,
    temperature: Temperature = 0.0,
    url: Url = "",
    api_key: ApiKey = "",
    state: StateDir = STATE,
) -> None:
    """Talk to the target; tokens that a device drafted and the target accepted are coloured."""
    from cli.chat import run_chat

    with told():
        run_chat(_url(url, state), api_key, prompt, max_tokens, temperature)


@app.command()
def policy(
    name: Annotated[str, typer.Argument(help="Policy to change to; empty = print the one in force.")] = "",
    k: Annotated[int, typer.Option(min=0, max=64, help="Draft length; 0 = the policy's own.")] = 0,
    verifier_threads: Threads = 0,
    draft_threads: Threads = 0,
    url: Url = "",
    api_key: ApiKey = "",
    state: StateDir = STATE,
) -> None:
    """Print or change the policy; in force from each session's next round."""
    from cli.admin import Admin

    async def run() -> None:
        async with Admin(_url(url, state), api_key) as admin:
            if name:
                await admin.set_policy(name, k, verifier_threads, draft_threads)
            print(" ".join(f"{key}={value}" for key, value in (await admin.policy()).items()))

    _run(run())


@app.command()
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
    _run(run_demo(Demo(folder, draft_file, name, users, tokens, repeats, out, state)))


@app.command()
def doctor(
    target: Annotated[str, typer.Option(help="Pair to look at.")] = "smollm2",
    quick: Annotated[bool, typer.Option(help="Only look; measure nothing.")] = False,
    out: ProfileFile = STATE / "profile.json",
) -> None:
    """Check models, vocabularies and broker; then measure whether speculation pays on this machine."""
    from cli.doctor import run_doctor

    with told():
        raise typer.Exit(run_doctor(target, quick=quick, out=out))


@app.command()
def calibrate(
    target: Annotated[
        str, typer.Option(help="Target: name of a fetched pair, hub name, folder or .gguf.")
    ] = "smollm2",
    draft: Annotated[str, typer.Option(help="Draft model (.gguf); empty = the pair's own.")] = "",
    dtype: Annotated[str, typer.Option(help="Of the target: auto, float32 or bfloat16.")] = "auto",
    device: Annotated[str, typer.Option(help="Where the target runs: auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, max=1024, help="Of the verifier; 0 = all cores.")] = 0,
    widths: Annotated[str, typer.Option(help="Rows of a pass, like 1,4,16; empty = 1,2,4,8,16.")] = "",
    lengths: Annotated[str, typer.Option(help="New tokens of a row; empty = 1,2,3,5,9.")] = "",
    contexts: Annotated[str, typer.Option(help="Cached tokens of a row; empty = 32,128,512.")] = "",
    quick: Annotated[bool, typer.Option(help="Fewer shapes and repeats; a shorter running stack.")] = False,
    broker: Annotated[bool, typer.Option(help="Run a stack, too, for the broker's share of a batch.")] = True,
    out: ProfileFile = STATE / "profile.json",
    state: StateDir = STATE,
) -> None:
    """Measure drafting, verifying and the broker on this machine; write a profile that `outrider plan` reads.

    Passes of every width, length and context are timed with the real target; two cost laws are fitted (packed:
    Outrider's; padded: the papers') and judged on passes that were held out of the fit. Then a real stack serves a
    few users, and what a batch takes beside its pass is added to both laws' beta_ms. Takes some minutes; nothing
    else should run meanwhile. `outrider plan question.json --profile .outrider/profile.json` plans with it.
    """
    from cli.calibrate.grid import FULL, QUICK, grid
    from cli.calibrate.run import Wanted, run_calibrate

    with told():
        shapes = grid(QUICK if quick else FULL, widths, lengths, contexts)
        run_calibrate(
            Wanted(target, draft, dtype, device, threads, shapes, quick, broker, out, state_dir=state)
        )


@app.command(epilog=f"A question: {QUESTION}")
def plan(
    question: Annotated[str, typer.Argument(help="File with the question in JSON; - = stdin.")] = "-",
    profile: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="What `outrider calibrate` wrote, or any JSON with a `server`."),
    ] = None,
) -> None:
    """Plan batches and draft lengths for the users and the server of a question; prints JSON.

    law "packed" takes beta_ms, per_token_ms, per_context_ms, memory_bytes, kv_bytes_per_token; "padded" the paper's
    layers, hidden, ffn, c (ms per operation), beta_ms, memory_bytes. objective: throughput, weighted or fair. solver:
    auto, outrider, exact (few users) or paper.
    """
    import json

    from cli.plan.ask import ask
    from shared.runtime.errors import words

    try:
        print(json.dumps(ask(question, profile), indent=2))
    except (ValueError, OSError) as error:
        leave(f"plan: {words(error)}")


@paper_app.command("dip-sd")
def paper_dip_sd(
    out: OutFolder = STATE / "paper",
) -> None:
    """DiP-SD's headline ratios, published and ours, and sweeps over users and acceptance."""
    from cli.plan.paper_dip_sd import run

    run(out)


@bench_app.command("policies")
def bench_policies(
    scenarios: Annotated[
        list[Path], typer.Argument(help="Scenario files, see scenarios/.", exists=True, dir_okay=False)
    ],
    target: Annotated[str, typer.Option(help="Target: name of a fetched pair or folder.")] = "smollm2",
    dtype: Annotated[str, typer.Option(help="Of the target: float32 or bfloat16.")] = "bfloat16",
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Interleaved repeats of every entrant.")] = 5,
    settle: Settle = 0,
    measure: Measure = 0,
    rivals: Annotated[bool, typer.Option(help="Beside them transformers' generate.")] = True,
    only: Annotated[
        str, typer.Option(metavar="POLICY,...", help="These of the scenario's policies; empty = all.")
    ] = "",
    profile: Annotated[
        Path, typer.Option(dir_okay=False, help="Of `outrider calibrate`, same target and dtype.")
    ] = STATE / "profile.json",
    out: OutFolder = STATE / "bench",
    state: StateDir = STATE,
) -> None:
    """Policies by turns on the same services: real broker and verifier, emulated devices, every text checked.

    Ratios are taken within each repeat and given with their 95 % intervals.
    """
    from cli.race.policies import Wanted, run_policies

    folder, _, name = pair_of(target, "")
    kept = tuple(policy.strip() for policy in only.split(",") if policy.strip())
    wanted = Wanted(
        scenarios, target, dtype, repeats, settle, measure, rivals, profile, out, state / "bench", kept
    )
    _run(run_policies(wanted, folder, name))


@bench_app.callback()
def _bench() -> None:
    """Measure on this machine."""


@paper_app.callback()
def _paper() -> None:
    """Published figures from the papers' own models, beside ours."""


def _url(url: str, state: Path) -> str:
    from cli.stack.stack import read_state

    if url:
        return url
    running = read_state(state)
    if running is None:
        leave(f"no stack runs here ({state}/up.json); start one with `outrider up`, or give --url")
    return running.url


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to its end, told as `told` tells."""
    with told():
        asyncio.run(work)


def main() -> None:
    """Entry point of the `outrider` command."""
    run_app("outrider", app)


if __name__ == "__main__":
    main()
