"""`outrider devices` and `outrider join`. Heavy libraries load inside the command that needs them."""

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
        help="How the device reaches the broker; by default as `outrider up --listen` says.",
    ),
]
BrokerUrl = Annotated[
    str,
    typer.Option(
        envvar="OUTRIDER_BROKER_URL",
        callback=checked_broker,
        help="Broker, as seen from here; empty = the stack that runs here.",
    ),
]
AccessDir = Annotated[
    Path | None,
    typer.Option(
        envvar="OUTRIDER_ACCESS",
        file_okay=False,
        help="Folder with the broker's passwords; by default in the state.",
    ),
]


@app.command("add")
def add_(
    name: Annotated[str, typer.Argument(help="Of the device: letters, digits, '_', '.', '-'.")],
    expires: Annotated[str, typer.Option(help="How long it may come: 30d, 12h, 90m; empty = for ever.")] = "",
    url: JoinUrl = "",
    broker: BrokerUrl = "",
    access: AccessDir = None,
    state: StateDir = STATE,
) -> None:
    """Give a device a credential and print the one line for its machine. Again for a name: another credential."""
    from cli.devices.devices import add

    with cli_errors(OSError):
        line, remark = asyncio.run(add(place_of(state, access, broker, url), name, expires))
    if remark:
        print(f"outrider: {remark}", file=sys.stderr)
    print(line)


@app.command("prepare", hidden=True)
def prepare_(access: AccessDir = None, state: StateDir = STATE) -> None:
    """Make the passwords and the access list that a broker with users starts with, where they are missing."""
    from cli.stack.access import Access
    from cli.stack.stack import access_of

    async def run(folder: Access) -> None:
        async with folder.locked():
            folder.prepare()

    with cli_errors(OSError):
        asyncio.run(run(Access(access) if access else access_of(state)))


@app.command("list")
def list_(access: AccessDir = None, state: StateDir = STATE) -> None:
    """Devices that have a credential. Who of them is here now, `outrider status` shows."""
    from rich.console import Console

    from cli.devices.devices import show

    with cli_errors():
        show(place_of(state, access, "", ""), Console())


@app.command("remove")
def remove_(
    name: Annotated[str, typer.Argument(help="Of the device.")],
    broker: BrokerUrl = "",
    access: AccessDir = None,
    state: StateDir = STATE,
) -> None:
    """Take a device's credential away. If it is connected, it is cut off, and its users go on without it."""
    from cli.devices.devices import remove

    with cli_errors(OSError):
        done, remark = asyncio.run(remove(place_of(state, access, broker, ""), name))
    print(f"{done}; {remark}" if remark else done)


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
    from cli.devices.join import JoinOptions, run_join
    from shared.runtime.service import main as serve

    serve(
        "outrider join", run_join(JoinOptions(url, name, token_file, model, threads, sessions, health_port))
    )


def place_of(state: Path, access: Path | None, broker: str, url: str) -> "Place":
    """Where the broker's files are, and the broker."""
    from cli.devices.devices import Place
    from cli.stack.access import Access
    from cli.stack.stack import access_of, read_state

    own = access_of(state)
    folder = Access(access) if access else own
    running = read_state(state) if folder.folder.resolve() == own.folder else None
    if not folder.acl_file.is_file():
        fail(f"{folder.folder}: no broker with passwords has run here; `outrider up --listen IP` makes one")
    # No broker is told that may be another's: neither what listens at the usual port, nor this stack's for other files.
    found = broker or (running.broker_url if running else "")
    return Place(folder, found, url or (running.join_url if running else ""))
