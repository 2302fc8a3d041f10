"""`outrider up` and `outrider down`: their options. Heavy libraries are imported inside the command."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cli.command.cli_errors import cli_errors, fail
from cli.command.errors import ModelError
from cli.command.options import STATE, StateDir
from shared.planning.policies import POLICY_NAMES

MAX_PORT = 65_535
POLICIES = f"One of {', '.join(POLICY_NAMES)}."

Target = Annotated[
    str, typer.Option(help="Target: name of a fetched pair, ORG/NAME on a hub, folder or .gguf.")
]
DraftModel = Annotated[str, typer.Option(help="Draft model (.gguf); empty = the pair's own.")]
GatewayPort = Annotated[
    int, typer.Option(min=0, max=MAX_PORT, help="Gateway's port on 127.0.0.1; 0 = a free one.")
]
BrokerPort = Annotated[
    int, typer.Option(min=0, max=MAX_PORT, help="Embedded broker's port on 127.0.0.1; 0 = a free one.")
]
HealthPort = Annotated[
    int,
    typer.Option(
        min=0,
        max=MAX_PORT,
        help="First port of the health pages on 127.0.0.1 (gateway, scheduler, verifier, draft workers); "
        "0 = free ones.",
    ),
]
Listen = Annotated[
    str,
    typer.Option(
        metavar="IP",
        help="Address of this machine on which the broker accepts devices of other machines, with passwords.",
    ),
]

Stages = Annotated[
    int,
    typer.Option(
        min=1,
        max=64,
        help="Processes that the target's layers are split over, a pipeline; 1 = none, all in one.",
    ),
]
Modelled = Annotated[bool, typer.Option(help="Replace the models by cost laws (modelled compute).")]


def up(
    target: Target = "smollm2",
    draft: DraftModel = "",
    draft_workers: Annotated[int, typer.Option(min=0, max=64, help="Draft workers on this machine.")] = 2,
    device: Annotated[str, typer.Option(help="Where the target runs: auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Data type of the target: auto, float32 or bfloat16.")] = "auto",
    stages: Stages = 1,
    policy: Annotated[str, typer.Option(help=POLICIES)] = "fixed-k",
    k: Annotated[int, typer.Option(min=0, max=64, help="Draft length of fixed-k and cyclic-k.")] = 4,
    port: GatewayPort = 8000,
    broker_port: BrokerPort = 6399,
    health_port: HealthPort = 9101,
    listen: Listen = "",
    modelled: Modelled = False,
    state: StateDir = STATE,
) -> None:
    """Run all services as local processes on an embedded broker. Restarts processes that die; Ctrl-C stops all."""
    from cli.stack.profile import profile_for
    from cli.stack.stack import Ports, StackOptions
    from cli.stack.up import run_up

    settings = {
        "OUTRIDER_DEVICE": device,
        "OUTRIDER_DTYPE": dtype,
        "OUTRIDER_POLICY": policy,
        "OUTRIDER_K": str(k),
    }
    folder, draft_file, name = (None, None, "modelled") if modelled else pair_of(target, draft)
    if not modelled and not draft:
        settings["OUTRIDER_DRAFT"] = _fetched_by(name)
    settings["OUTRIDER_PROFILE"], remark = profile_for(name, state / "profile.json")
    if remark:
        print(remark, file=sys.stderr)
    options = StackOptions(
        target_dir=folder,
        draft_model=draft_file,
        served_name=name,
        modelled=modelled,
        draft_workers=draft_workers,
        listen=_own_address(listen),
        ports=Ports(port, broker_port, health_port),
        state_dir=state,
        env=settings,
        stages=stages,
    )
    options = replace(options, ports=options.ports.filled(options.health_ports))
    with cli_errors():
        asyncio.run(run_up(options))


def down(state: StateDir = STATE) -> None:
    """Stop the stack that `outrider up` runs here, and wait until it has stopped."""
    from cli.stack.up import run_down

    with cli_errors(OSError):
        print(run_down(state))


def pair_of(target: str, draft: str) -> tuple[Path, Path, str]:
    """Folder of the target, file of the draft, and the model name for clients. Exits when they are not usable."""
    from cli.models.resolve import resolve

    try:
        return resolve(target, draft)
    except ModelError as error:
        fail(str(error))


def _fetched_by(name: str) -> str:
    """Name under which remote devices can fetch this model's draft; "" for a model of the user's own."""
    from cli.models import manifest

    return name if name in manifest.known() else ""


def _own_address(listen: str) -> str:
    """The address to listen on, checked; "" = none. Exits when it is invalid."""
    if not listen:
        return ""
    from cli.stack.addresses import NoAddress, own_address

    try:
        return own_address(listen)
    except NoAddress as error:
        fail(f"--listen {listen}: {error}")
