"""`outrider devices`: credentials of remote devices, in the broker's files and in the broker if it is running."""

import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from cli.command.errors import CommandError
from cli.stack.access import Access, new_password
from shared.broker.access import OPERATOR, device_user, secret_of, set_user
from shared.broker.connections import Connections
from shared.broker.contract import BrokerAway, BrokerDenied
from shared.broker.device_list import Device

DAY_S: Final = 86_400
UNITS: Final = {"m": 60, "h": 3600, "d": DAY_S}


@dataclass(frozen=True, slots=True)
class Place:
    """A broker's files and URLs.

    broker_url: from this machine; "" = it is not running. join_url: from devices; "" = not reachable for them.
    """

    access: Access
    broker_url: str
    join_url: str


async def add(place: Place, name: str, expires: str) -> tuple[str, str]:
    """Create or replace a device's credential. expires: lifetime like "30d"; "" = unlimited. Raises CommandError.

    Returns the command line for the device's machine, and a remark for the user ("" = none).
    """
    if not place.join_url:
        raise CommandError(
            "this broker accepts connections from this machine only; start it with `outrider up --listen IP`, "
            "or give --url"
        )
    try:
        device_user(name)
    except ValueError as error:
        raise CommandError(str(error)) from None
    now_s, password = int(time.time()), new_password()
    expires_s = now_s + lifetime_s(expires) if expires else 0
    async with place.access.locked():  # the broker is changed in the same order as the files
        account = place.access.put(Device(name, secret_of(password), now_s, expires_s))
        remark = await _update_broker(place, ("ACL", "SETUSER", *set_user(account, place.access.shard)))
    file = f"outrider-{name}.token"
    line = (
        f"(umask 077; echo {shlex.quote(password)} > {file}) && "
        f"outrider join {shlex.quote(place.join_url)} --name {name} --token-file {file}"
    )
    return line, remark


async def remove(place: Place, name: str) -> tuple[str, str]:
    """Delete a device's credential and disconnect it. Returns what was done, and a remark ("" = none).

    Raises CommandError when no device has the name.
    """
    async with place.access.locked():
        if not place.access.drop(name):
            known = ", ".join(device.name for device in place.access.devices()) or "none"
            raise CommandError(f"no device has the name {name!r}; there are: {known}")
        remark = await _update_broker(place, ("ACL", "DELUSER", device_user(name)))
    return f"{name} can no longer join", remark


def show(place: Place, console: Console) -> None:
    """Print a table of all devices with a credential."""
    table = Table("device", "added", "expires")
    for device in place.access.devices():
        is_expired = device.expires_s and device.expires_s < time.time()
        until = (
            _date(device.expires_s) + (" (expired)" if is_expired else "") if device.expires_s else "never"
        )
        table.add_row(device.name, _date(device.added_s), until)
    console.print(table if table.row_count else "no device has a credential; `outrider devices add NAME`")


def lifetime_s(text: str) -> int:
    """Seconds of a lifetime like "30d", "12h" or "90m". Raises CommandError."""
    match = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if not match or int(match[1]) == 0:
        raise CommandError(f"--expires {text!r}: must be a number followed by m, h or d, as in 30d")
    return int(match[1]) * UNITS[match[2]]


async def _update_broker(place: Place, command: Sequence[str]) -> str:
    """Run the command on the running broker. Returns a remark when none is running, else "". Raises CommandError."""
    if not place.broker_url:
        return "no broker runs here, and --broker is not given; a broker that starts with these files reads the change"
    password = Path(place.access.password_file(OPERATOR)).read_text(encoding="utf-8").strip()
    redis = Connections(place.broker_url, OPERATOR, password)
    try:
        await redis.call(*command)
    except BrokerAway:
        return "the broker is not running; it reads the change when it starts"
    except BrokerDenied as error:
        raise CommandError(f"{error}: is this the folder of the running broker?") from None
    finally:
        await redis.close()
    return ""


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
