"""Passwords and access list of a broker that listens beyond this machine: a folder of files for their owner alone.

`broker/users.acl` is what the server reads (`aclfile`), `ROLE/password` what a role of the core is given, and
`scheduler/devices.json` who else may come. So each process can be given its own folder and none of the others.
"""

import secrets
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.broker.access import CORE, OPERATOR, Account, acl_file, device_user, secret_of
from shared.broker.device_list import Device, read_devices, write_devices, write_private
from shared.runtime.stack_state import locked

PASSWORD_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Access:
    """The folder. shard: whose keys the users may touch. Whoever changes something there holds `locked`."""

    folder: Path
    shard: str = "s0"

    @property
    def acl_file(self) -> Path:
        """The server's access list."""
        return self.folder / "broker" / "users.acl"

    @property
    def devices_file(self) -> Path:
        """Devices with a credential of their own."""
        return self.folder / "scheduler" / "devices.json"

    def password_file(self, user: str) -> Path:
        """Of a role of the core, or the operator."""
        return self.folder / user / "password"

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Keep others from changing anything meanwhile. Entering raises CommandError, OSError."""
        return locked(self.folder / ".lock")

    def prepare(self) -> None:
        """Make what is missing. Raises OSError, DeviceListError."""
        for user in (*CORE, OPERATOR):
            if not self.password_file(user).is_file():
                write_private(self.password_file(user), new_password() + "\n")
        self._write(list(read_devices(self.devices_file)))

    def devices(self) -> tuple[Device, ...]:
        """All of them, by name. Raises DeviceListError."""
        return tuple(sorted(read_devices(self.devices_file), key=lambda device: device.name))

    def put(self, device: Device) -> Account:
        """Add a device, or give it another password. Raises OSError, DeviceListError."""
        others = [other for other in self.devices() if other.name != device.name]
        self._write([*others, device])
        return Account(device_user(device.name), device.secret)

    def drop(self, name: str) -> bool:
        """False when there was none of that name. Raises as `put`."""
        devices = self.devices()
        left = [device for device in devices if device.name != name]
        if len(left) == len(devices):
            return False
        self._write(left)
        return True

    def _write(self, devices: list[Device]) -> None:
        write_devices(self.devices_file, devices)
        self._write_list(tuple(devices))

    def _write_list(self, devices: tuple[Device, ...]) -> None:
        accounts = [
            Account(user, secret_of(self.password_file(user).read_text(encoding="utf-8").strip()))
            for user in (*CORE, OPERATOR)
        ]
        accounts += [Account(device_user(device.name), device.secret) for device in devices]
        write_private(self.acl_file, acl_file(accounts, self.shard))


def new_password() -> str:
    """Of 192 random bits, in characters that need no quoting in a shell."""
    return secrets.token_urlsafe(PASSWORD_BYTES)
