"""`outrider devices`: who may join from elsewhere, in the broker's files and, where it runs, in the broker itself."""

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
    """Where the broker's files are, where it is for us ("" = it does not run), and where for devices ("" = nowhere)."""

    access: Access
    broker_url: str
    join_url: str


async def add(place: Place, name: str, expires: str) -> tuple[str, str]:
    """Give a device a credential (another one if it had one). Raises CommandError.

    Returns the one line for the other machine, and a remark for whoever asked ("" = none).
    """
    if not place.join_url:
        raise CommandError(
            "this broker is open to this machine alone: `outrider up --listen IP` opens it, or give --url"
        )
    try:
        device_user(name)
    except ValueError as error:
        raise CommandError(str(error)) from None
    now_s, password = int(time.time()), new_password()
    expires_s = now_s + lifetime_s(expires) if expires else 0
    async with place.access.locked():  # the broker is told in the order of the files
        account = place.access.put(Device(name, secret_of(password), now_s, expires_s))
        remark = await _tell(place, ("ACL", "SETUSER", *set_user(account, place.access.shard)))
    file = f"outrider-{name}.token"
    line = (
        f"(umask 077; echo {shlex.quote(password)} > {file}) && "
        f"outrider join {shlex.quote(place.join_url)} --name {name} --token-file {file}"
    )
    return line, remark


async def remove(place: Place, name: str) -> tuple[str, str]:
    """Take a device's credential away; a device that is connected is cut off. Returns as `add`."""
    async with place.access.locked():
        if not place.access.drop(name):
            known = ", ".join(device.name for device in place.access.devices()) or "none"
            raise CommandError(f"no device has the name {name!r}; there are: {known}")
        remark = await _tell(place, ("ACL", "DELUSER", device_user(name)))
    return f"{name} cannot join any more", remark


def show(place: Place, console: Console) -> None:
    """A table of all of them."""
    table = Table("device", "added", "expires")
    for device in place.access.devices():
        over = device.expires_s and device.expires_s < time.time()
        until = _date(device.expires_s) + (" (over)" if over else "") if device.expires_s else "never"
        table.add_row(device.name, _date(device.added_s), until)
    console.print(table if table.row_count else "no device has a credential; `outrider devices add NAME`")


def lifetime_s(text: str) -> int:
    """Of "30d", "12h" or "90m". Raises CommandError."""
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if not found or int(found[1]) == 0:
        raise CommandError(f"--expires {text!r}: a number and m, h or d, as in 30d")
    return int(found[1]) * UNITS[found[2]]


async def _tell(place: Place, command: Sequence[str]) -> str:
    """Have the running broker do it as well. Returns a remark when it does not run, "" when it did."""
    if not place.broker_url:
        return "no broker runs here, and --broker names none; one that starts with these files will know"
    password = Path(place.access.password_file(OPERATOR)).read_text(encoding="utf-8").strip()
    redis = Connections(place.broker_url, OPERATOR, password)
    try:
        await redis.call(*command)
    except BrokerAway:
        return "the broker does not run now; it will know when it starts"
    except BrokerDenied as error:
        raise CommandError(f"{error}: is this the folder of the broker that runs?") from None
    finally:
        await redis.close()
    return ""


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
