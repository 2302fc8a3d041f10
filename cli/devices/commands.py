"""`outrider devices`: add, list, remove. Heavy libraries load inside the command that needs them."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.cli_errors import leave, told
from cli.options import STATE, StateDir, checked_broker

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

    with told(OSError):
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

    with told(OSError):
        asyncio.run(run(Access(access) if access else access_of(state)))


@app.command("list")
def list_(access: AccessDir = None, state: StateDir = STATE) -> None:
    """Devices that have a credential. Who of them is here now, `outrider status` shows."""
    from rich.console import Console

    from cli.devices.devices import show

    with told():
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

    with told(OSError):
        done, remark = asyncio.run(remove(place_of(state, access, broker, ""), name))
    print(f"{done}; {remark}" if remark else done)


def place_of(state: Path, access: Path | None, broker: str, url: str) -> "Place":
    """Where the broker's files are, and the broker."""
    from cli.devices.devices import Place
    from cli.stack.access import Access
    from cli.stack.stack import access_of, read_state

    own = access_of(state)
    folder = Access(access) if access else own
    running = read_state(state) if folder.folder.resolve() == own.folder else None
    if not folder.acl_file.is_file():
        leave(f"{folder.folder}: no broker with passwords has run here; `outrider up --listen IP` makes one")
    # No broker is told that may be another's: neither what listens at the usual port, nor this stack's for other files.
    found = broker or (running.broker_url if running else "")
    return Place(folder, found, url or (running.join_url if running else ""))
