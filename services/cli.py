"""The `outrider` command. Heavy libraries load inside the command that needs them."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from services.local.device_commands import app as devices_app
from services.local.telling import leave, told
from services.models.commands import app as models_app

app = typer.Typer(
    help="Outrider: serve a large language model from edge devices and one core by distributed speculative decoding.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(models_app, name="models", help="Fetch, list, add, requantize, verify and remove models.")
paper_app = typer.Typer(name="paper", no_args_is_help=True)
app.add_typer(paper_app, name="paper", help="Published figures from the papers' own models, beside ours.")

app.add_typer(devices_app, name="devices", help="Devices elsewhere that may join: add, list, remove.")

bench_app = typer.Typer(name="bench", no_args_is_help=True)
app.add_typer(bench_app, name="bench", help="Measure on this machine: policies on scenarios.")

StateDir = Annotated[
    Path, typer.Option(envvar="OUTRIDER_STATE", help="Where a running stack keeps its state.")
]
Url = Annotated[str, typer.Option(help="Gateway; empty = the stack that `outrider up` runs here.")]
ApiKey = Annotated[str, typer.Option(envvar="OUTRIDER_API_KEY", help="Key for a gateway that asks for one.")]

STATE = Path(".outrider")
QUESTION = (
    '{"server": {"law": "packed", "beta_ms": 30, "per_token_ms": 1.4, "per_context_ms": 0.001, "memory_bytes": 1e9, '
    '"kv_bytes_per_token": 46080}, "users": [{"id": "u1", "alpha": 0.78, "prefix": 512, "draft_ms_per_token": 12, '
    '"comm_ms": 3}], "objective": "throughput", "solver": "auto"}'
)


@app.command()
def up(
    target: Annotated[
        str, typer.Option(help="Target: name of a fetched pair, hub name, folder or .gguf.")
    ] = "smollm2",
    draft: Annotated[str, typer.Option(help="Draft model (.gguf); empty = the pair's own.")] = "",
    draft_workers: Annotated[int, typer.Option(min=0, max=64, help="Draft workers on this machine.")] = 2,
    device: Annotated[str, typer.Option(help="Where the target runs: auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Of the target: auto, float32 or bfloat16.")] = "auto",
    policy: Annotated[
        str,
        typer.Option(
            help="autoregressive, greedy-batch, fixed-k, cyclic-k, dip-sd, outrider or outrider-fair."
        ),
    ] = "fixed-k",
    k: Annotated[int, typer.Option(min=0, max=64, help="Draft length of fixed-k and cyclic-k.")] = 4,
    port: Annotated[int, typer.Option(help="Gateway's port on 127.0.0.1.")] = 8000,
    broker_port: Annotated[int, typer.Option(help="Embedded broker's port on 127.0.0.1.")] = 6399,
    listen: Annotated[
        str,
        typer.Option(
            metavar="IP",
            help="An address of this machine at which devices elsewhere reach the broker, with passwords.",
        ),
    ] = "",
    modelled: Annotated[bool, typer.Option(help="Modelled compute: no models, cost laws instead.")] = False,
    state: StateDir = STATE,
) -> None:
    """Run all services as local processes on the embedded broker. Restarts what dies; one Ctrl-C ends all."""
    from services.local.profile import profile_for
    from services.local.stack import Options, Ports
    from services.local.up import run_up

    settings = {
        "OUTRIDER_DEVICE": device,
        "OUTRIDER_DTYPE": dtype,
        "OUTRIDER_POLICY": policy,
        "OUTRIDER_K": str(k),
    }
    folder, draft_file, name = (None, None, "modelled") if modelled else _pair(target, draft)
    if not modelled and not draft:
        settings["OUTRIDER_DRAFT"] = _fetched_by(name)
    settings["OUTRIDER_PROFILE"], told = profile_for(name, state / "profile.json")
    if told:
        print(told, file=sys.stderr)
    options = Options(
        target_dir=folder,
        draft_model=draft_file,
        served_name=name,
        modelled=modelled,
        draft_workers=draft_workers,
        listen=_own_address(listen),
        ports=Ports(gateway=port, broker=broker_port),
        state_dir=state,
        env=settings,
    )
    _run(run_up(options))


@app.command()
def down(state: StateDir = STATE) -> None:
    """End the stack that `outrider up` runs here, and wait until it has ended."""
    from services.local.up import run_down

    print(run_down(state))


@app.command()
def join(
    url: Annotated[str, typer.Argument(help="Of the broker: redis://HOST:PORT, or rediss:// for TLS.")],
    name: Annotated[str, typer.Option(help="Of this device, as given to `outrider devices add`.")],
    token_file: Annotated[Path, typer.Option(help="File with what `outrider devices add` printed.")],
    model: Annotated[
        Path | None, typer.Option(help="Draft model (.gguf); by default the core's own, fetched once.")
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
    from services.local.join import Joining, run_join
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
    from services.local.status import run_status

    _run(run_status(_url(url, state), api_key, once=once))


@app.command()
def chat(
    prompt: Annotated[str, typer.Argument(help="One question; empty = a conversation.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0)] = 0.0,
    url: Url = "",
    api_key: ApiKey = "",
    state: StateDir = STATE,
) -> None:
    """Talk to the target; tokens that a device drafted and the target accepted are coloured."""
    from services.local.chat import run_chat

    _run(run_chat(_url(url, state), api_key, prompt, max_tokens, temperature))


@app.command()
def policy(
    name: Annotated[str, typer.Argument(help="Policy to change to; empty = print the one in force.")] = "",
    k: Annotated[int, typer.Option(min=0, max=64, help="Draft length; 0 = the policy's own.")] = 0,
    verifier_threads: Annotated[
        int, typer.Option(min=0, help="Threads of every verifier; 0 = as they are.")
    ] = 0,
    draft_threads: Annotated[
        int, typer.Option(min=0, help="Threads of every draft worker; 0 = as they are.")
    ] = 0,
    url: Url = "",
    api_key: ApiKey = "",
    state: StateDir = STATE,
) -> None:
    """Print or change the policy; in force from each session's next round."""
    from services.local.admin import Admin

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
    out: Annotated[Path, typer.Option(help="Result file.")] = STATE / "demo.json",
    state: StateDir = STATE,
) -> None:
    """Eight users, with drafts from this machine and then from emulated devices: text, a table, every text checked."""
    from services.demo.run import Demo, run_demo

    folder, draft_file, name = _pair("smollm2", "")
    _run(run_demo(Demo(folder, draft_file, name, users, tokens, repeats, out, state)))


@app.command()
def doctor(
    target: Annotated[str, typer.Option(help="Pair to look at.")] = "smollm2",
    quick: Annotated[bool, typer.Option(help="Only look; measure nothing.")] = False,
    out: Annotated[Path, typer.Option(help="Profile file.")] = STATE / "profile.json",
) -> None:
    """Check models, vocabularies and broker; then measure whether speculation pays on this machine."""
    from services.doctor import run_doctor

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
    threads: Annotated[int, typer.Option(min=0, help="Of the verifier; 0 = all cores.")] = 0,
    widths: Annotated[str, typer.Option(help="Rows of a pass, like 1,4,16; empty = 1,2,4,8,16.")] = "",
    lengths: Annotated[str, typer.Option(help="New tokens of a row; empty = 1,2,3,5,9.")] = "",
    contexts: Annotated[str, typer.Option(help="Cached tokens of a row; empty = 32,128,512.")] = "",
    quick: Annotated[bool, typer.Option(help="Fewer shapes and repeats; a shorter running stack.")] = False,
    broker: Annotated[bool, typer.Option(help="Run a stack, too, for the broker's share of a batch.")] = True,
    out: Annotated[Path, typer.Option(help="Profile file.")] = STATE / "profile.json",
    state: StateDir = STATE,
) -> None:
    """Measure drafting, verifying and the broker on this machine; write a profile that `outrider plan` reads.

    Passes of every width, length and context are timed with the real target; two cost laws are fitted (packed:
    Outrider's; padded: the papers') and judged on passes that were held out of the fit. Then a real stack serves a
    few users, and what a batch takes beside its pass is added to both laws' beta_ms. Takes some minutes; nothing
    else should run meanwhile. `outrider plan question.json --profile .outrider/profile.json` plans with it.
    """
    from services.calibrate.grid import FULL, QUICK, grid
    from services.calibrate.run import Wanted, run_calibrate

    with told():
        shapes = grid(QUICK if quick else FULL, widths, lengths, contexts)
        run_calibrate(
            Wanted(target, draft, dtype, device, threads, shapes, quick, broker, out, state_dir=state)
        )


@app.command(epilog=f"A question: {QUESTION}")
def plan(
    question: Annotated[str, typer.Argument(help="File with the question in JSON; - = stdin.")] = "-",
    profile: Annotated[
        Path | None, typer.Option(help="What `outrider calibrate` wrote, or any JSON with a `server`.")
    ] = None,
) -> None:
    """Plan batches and draft lengths for the users and the server of a question; prints JSON.

    law "packed" takes beta_ms, per_token_ms, per_context_ms, memory_bytes, kv_bytes_per_token; "padded" the paper's
    layers, hidden, ffn, c (ms per operation), beta_ms, memory_bytes. objective: throughput, weighted or fair. solver:
    auto, outrider, exact (few users) or paper.
    """
    import json

    from services.planner.ask import ask

    try:
        print(json.dumps(ask(question, profile), indent=2))
    except (ValueError, OSError) as error:
        leave(f"plan: {error}")


@paper_app.command("dip-sd")
def paper_dip_sd(
    out: Annotated[Path, typer.Option(help="Folder for CSV and picture.")] = STATE / "paper",
) -> None:
    """DiP-SD's headline ratios, published and ours, and sweeps over users and acceptance."""
    from services.planner.paper_dip_sd import run

    run(out)


@bench_app.command("policies")
def bench_policies(
    scenarios: Annotated[list[Path], typer.Argument(help="Scenario files, see scenarios/.", exists=True)],
    target: Annotated[str, typer.Option(help="Target: name of a fetched pair or folder.")] = "smollm2",
    dtype: Annotated[str, typer.Option(help="Of the target: float32 or bfloat16.")] = "bfloat16",
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Interleaved repeats of every entrant.")] = 5,
    settle: Annotated[float, typer.Option(min=0, help="Seconds cut at the start; 0 = the scenario's.")] = 0,
    measure: Annotated[float, typer.Option(min=0, help="Seconds counted; 0 = the scenario's.")] = 0,
    rivals: Annotated[bool, typer.Option(help="Beside them transformers' generate.")] = True,
    only: Annotated[
        str, typer.Option(metavar="POLICY,...", help="These of the scenario's policies; empty = all.")
    ] = "",
    profile: Annotated[Path, typer.Option(help="Of `outrider calibrate`, same target and dtype.")] = STATE
    / "profile.json",
    out: Annotated[Path, typer.Option(help="Folder for results and pictures.")] = STATE / "bench",
    state: StateDir = STATE,
) -> None:
    """Policies by turns on the same services: real broker and verifier, emulated devices, every text checked.

    Ratios are taken within each repeat and given with their 95 % intervals.
    """
    from services.bench.policies import Wanted, run_policies

    folder, _, name = _pair(target, "")
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


def _pair(target: str, draft: str) -> tuple[Path, Path, str]:
    """Folder of the target, file of the draft, and the name clients use."""
    from services.models.resolve import ModelError, resolve

    try:
        return resolve(target, draft)
    except ModelError as error:
        leave(str(error))


def _fetched_by(name: str) -> str:
    """What devices elsewhere can fetch to draft for this model; "" when it is one of the user's own."""
    from services.models import manifest

    return name if name in manifest.known() else ""


def _own_address(listen: str) -> str:
    """An address that a broker here can listen on. Leaves when it is none."""
    if not listen:
        return ""
    from services.local.addresses import NoAddress, own_address

    try:
        return own_address(listen)
    except NoAddress as error:
        leave(f"--listen {listen}: {error}")


def _url(url: str, state: Path) -> str:
    from services.local.stack import read_state

    if url:
        return url
    running = read_state(state)
    if running is None:
        leave(f"no stack runs here ({state}/up.json); start one with `outrider up`, or give --url")
    return str(running["url"])


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to its end, told as `told` tells."""
    with told():
        asyncio.run(work)


def main() -> None:
    """Entry point of the `outrider` command."""
    app()


if __name__ == "__main__":
    main()
