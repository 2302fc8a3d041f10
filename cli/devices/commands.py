"""`outrider devices` and `outrider join`. Heavy libraries are imported inside the command that needs them."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.command.cli_errors import cli_errors, fail
from cli.command.options import STATE, JoinArgument, StateDir, checked_broker

if TYPE_CHECKING:
    from cli.devices.devices import Place

app = typer.Typer(no_args_is_help=True)

JoinUrl = Annotated[
    str,
    typer.Option(
        envvar="OUTRIDER_JOIN_URL",
        callback=checked_broker,
        help="URL at which the device reaches the broker; by default that of `outrider up --listen`.",
    ),
]
BrokerUrl = Annotated[
    str,
    typer.Option(
        envvar="OUTRIDER_BROKER_URL",
        callback=checked_broker,
        help="URL of the broker from this machine; empty = the local stack.",
    ),
]
AccessDir = Annotated[
    Path | None,
    typer.Option(
        envvar="OUTRIDER_ACCESS",
        file_okay=False,
        help="Folder of the broker's passwords; by default in the state folder.",
    ),
]


@app.command("add")
def add_(
    name: Annotated[str, typer.Argument(help="Name of the device: letters, digits, '_', '.', '-'.")],
    expires: Annotated[
        str, typer.Option(help="Lifetime of the credential: 30d, 12h, 90m; empty = unlimited.")
    ] = "",
    url: JoinUrl = "",
    broker: BrokerUrl = "",
    access: AccessDir = None,
    state: StateDir = STATE,
) -> None:
    """Create a credential for a device and print the command to run on its machine. Replaces an earlier credential."""
    from cli.devices.devices import add

    with cli_errors(OSError):
        line, remark = asyncio.run(add(place_of(state, access, broker, url), name, expires))
    if remark:
        print(f"outrider: {remark}", file=sys.stderr)
    print(line)


@app.command("prepare", hidden=True)
def prepare_(access: AccessDir = None, state: StateDir = STATE) -> None:
    """Create missing passwords and the access list of a broker with users."""
    from cli.stack.access import Access
    from cli.stack.stack import access_of

    async def run(folder: Access) -> None:
        async with folder.locked():
            folder.prepare()

    with cli_errors(OSError):
        asyncio.run(run(Access(access) if access else access_of(state)))


@app.command("list")
def list_(access: AccessDir = None, state: StateDir = STATE) -> None:
    """List devices that have a credential. `outrider status` shows which of them are connected."""
    from rich.console import Console

    from cli.devices.devices import show

    with cli_errors():
        show(place_of(state, access, "", ""), Console())


@app.command("remove")
def remove_(
    name: Annotated[str, typer.Argument(help="Name of the device.")],
    broker: BrokerUrl = "",
    access: AccessDir = None,
    state: StateDir = STATE,
) -> None:
    """Delete a device's credential. A connected device is disconnected; its users continue without it."""
    from cli.devices.devices import remove

    with cli_errors(OSError):
        done, remark = asyncio.run(remove(place_of(state, access, broker, ""), name))
    print(f"{done}; {remark}" if remark else done)


def join(
    url: JoinArgument,
    name: Annotated[str, typer.Option(help="Name of this device, as given to `outrider devices add`.")],
    token_file: Annotated[
        Path,
        typer.Option(dir_okay=False, help="File with the password, as `outrider devices add` prints it."),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Draft model (.gguf); by default the one the core names, fetched once."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Compute threads for drafting.")] = 1,
    sessions: Annotated[int, typer.Option(min=1, max=1024, help="Maximum sessions at once.")] = 8,
    health_port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port of /healthz and /metrics on 127.0.0.1; 0 = any free one."),
    ] = 0,
) -> None:
    """Draft for a core on another machine until Ctrl-C; reconnects without limit.

    `outrider devices add NAME`, run on the core's machine, prints the command line. Exits by itself only when the core
    does not accept it: 2 = a file or an option is wrong, 3 = refused (credential, protocol version, vocabulary), 4 = a
    newer device has its name.
    """
    from cli.devices.join import JoinOptions, run_join
    from shared.runtime.service import main as serve

    serve(
        "outrider join", run_join(JoinOptions(url, name, token_file, model, threads, sessions, health_port))
    )


def place_of(state: Path, access: Path | None, broker: str, url: str) -> "Place":
    """The broker's files and URLs for a command line's options. Exits when there are no files."""
    from cli.devices.devices import Place
    from cli.stack.access import Access
    from cli.stack.stack import access_of, read_state

    own = access_of(state)
    folder = Access(access) if access else own
    running = read_state(state) if folder.folder.resolve() == own.folder else None
    if not folder.acl_file.is_file():
        fail(f"{folder.folder}: no broker with passwords has run here; `outrider up --listen IP` starts one")
    # Only a broker that is known to read these files is changed: not whatever listens at the usual port, and not this
    # stack's broker when the files are another's.
    broker_url = broker or (running.broker_url if running else "")
    return Place(folder, broker_url, url or (running.join_url if running else ""))
