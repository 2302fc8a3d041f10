"""Option types of the command line, with checks that run before anything starts. Errors name option and fix."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from shared.runtime.address import AddressError, broker_url, gateway_url

STATE: Final = Path(".outrider")


def checked_gateway(value: str) -> str:
    """Base URL of a gateway; "" = not given. Raises typer.BadParameter."""
    try:
        return gateway_url(value) if value else ""
    except AddressError as error:
        raise typer.BadParameter(str(error)) from None


def checked_broker(value: str) -> str:
    """URL of a broker; "" = not given. Raises typer.BadParameter."""
    try:
        return broker_url(value) if value else ""
    except AddressError as error:
        raise typer.BadParameter(str(error)) from None


def checked_key(value: str) -> str:
    """A key that can be sent in a header; "" = not given. Raises typer.BadParameter."""
    key = value.strip()
    if not key.isprintable():
        raise typer.BadParameter("a key must be one line without control characters")
    return key


def checked_text(value: str) -> str:
    """Text that can be sent as UTF-8. Invalid bytes reach Python as surrogates. Raises typer.BadParameter."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise typer.BadParameter("this is not valid UTF-8") from None
    return value


def writable(value: Path) -> Path:
    """A file or folder that can be written, checked before minutes of measuring. Raises typer.BadParameter."""
    place = value.absolute()
    above = next(folder for folder in (place, *place.parents) if folder.exists())
    if above != place and not above.is_dir():
        raise typer.BadParameter(f"{above} is a file, not a folder")
    if not os.access(above, os.W_OK):
        raise typer.BadParameter(f"{above} is not writable")
    return value


StateDir = Annotated[
    Path,
    typer.Option(envvar="OUTRIDER_STATE", file_okay=False, help="State folder of the local stack."),
]
Url = Annotated[
    str,
    typer.Option(
        callback=checked_gateway,
        help="URL of the gateway, with or without /v1; empty = the stack that `outrider up` runs here.",
    ),
]
ApiKey = Annotated[
    str,
    typer.Option(
        envvar="OUTRIDER_API_KEY", callback=checked_key, help="API key, if the gateway requires one."
    ),
]
OutFile = Annotated[Path, typer.Option(dir_okay=False, callback=writable, help="Result file.")]
ProfileFile = Annotated[Path, typer.Option(dir_okay=False, callback=writable, help="Profile file.")]
OutFolder = Annotated[
    Path, typer.Option(file_okay=False, callback=writable, help="Folder for results and plots.")
]
JoinArgument = Annotated[
    str,
    typer.Argument(
        callback=checked_broker, help="URL of the broker: redis://HOST:PORT, or rediss:// for TLS."
    ),
]
Prompt = Annotated[
    str, typer.Argument(callback=checked_text, help="Question to answer; empty = hold a conversation.")
]
Temperature = Annotated[
    float,
    typer.Option(min=0.0, max=2.0, help="Sampling temperature; 0 = greedy."),
]
Settle = Annotated[
    float,
    typer.Option(min=0, max=86_400, help="Warm-up in seconds, not measured; 0 = the scenario's."),
]
Measure = Annotated[
    float,
    typer.Option(min=0, max=86_400, help="Measured seconds, after the warm-up; 0 = the scenario's."),
]
Threads = Annotated[
    int,
    typer.Option(min=0, max=1024, help="Compute threads of each process of this kind; 0 = unchanged."),
]
