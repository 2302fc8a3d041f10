"""Checks of what is typed on the command line, before anything starts. An error names the option and the fix."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from shared.runtime.address import AddressError, broker_url, gateway_url

STATE: Final = Path(".outrider")


def checked_gateway(value: str) -> str:
    """The base of a gateway's address; "" when none was given."""
    try:
        return gateway_url(value) if value else ""
    except AddressError as error:
        raise typer.BadParameter(str(error)) from None


def checked_broker(value: str) -> str:
    """A broker's address; "" when none was given."""
    try:
        return broker_url(value) if value else ""
    except AddressError as error:
        raise typer.BadParameter(str(error)) from None


def checked_key(value: str) -> str:
    """A key as a header can carry it; "" when none was given."""
    key = value.strip()
    if not key.isprintable():
        raise typer.BadParameter("a key is one line without control characters")
    return key


def checked_text(value: str) -> str:
    """Text that can be sent. Bytes of a terminal that are no UTF-8 reach Python as characters that cannot."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise typer.BadParameter("this is not valid UTF-8") from None
    return value


def writable(value: Path) -> Path:
    """A file or folder that can be made: known before minutes of measuring, not after."""
    place = value.absolute()
    above = next(folder for folder in (place, *place.parents) if folder.exists())
    if above != place and not above.is_dir():
        raise typer.BadParameter(f"{above} is a file, no folder")
    if not os.access(above, os.W_OK):
        raise typer.BadParameter(f"{above} cannot be written to")
    return value


StateDir = Annotated[
    Path,
    typer.Option(envvar="OUTRIDER_STATE", file_okay=False, help="Where a running stack keeps its state."),
]
Url = Annotated[
    str,
    typer.Option(
        callback=checked_gateway,
        help="Gateway, with or without /v1; empty = the stack that `outrider up` runs here.",
    ),
]
ApiKey = Annotated[
    str,
    typer.Option(
        envvar="OUTRIDER_API_KEY", callback=checked_key, help="Key for a gateway that asks for one."
    ),
]
OutFile = Annotated[Path, typer.Option(dir_okay=False, callback=writable, help="Result file.")]
ProfileFile = Annotated[Path, typer.Option(dir_okay=False, callback=writable, help="Profile file.")]
OutFolder = Annotated[
    Path, typer.Option(file_okay=False, callback=writable, help="Folder for results and pictures.")
]
JoinArgument = Annotated[
    str,
    typer.Argument(callback=checked_broker, help="Of the broker: redis://HOST:PORT, or rediss:// for TLS."),
]
Prompt = Annotated[str, typer.Argument(callback=checked_text, help="One question; empty = a conversation.")]
Temperature = Annotated[
    float,
    typer.Option(min=0.0, max=2.0, help="0 = the likeliest token each time."),
]
Settle = Annotated[
    float,
    typer.Option(min=0, max=86_400, help="Seconds cut at the start; 0 = the scenario's."),
]
Measure = Annotated[
    float,
    typer.Option(min=0, max=86_400, help="Seconds counted; 0 = the scenario's."),
]
Threads = Annotated[
    int,
    typer.Option(min=0, max=1024, help="Threads of every process of the kind; 0 = as they are."),
]
