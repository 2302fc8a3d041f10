"""Passwords and access list of a broker that other machines can reach, as files that only their owner can read.

The server reads `broker/users.acl` (`aclfile`), each role of the core its `ROLE/password`, and the scheduler also the
devices in `scheduler/devices.json`. So each process can be given its own folder and none of the others.
"""

import secrets
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.broker.access import CORE, OPERATOR, Account, acl_file, device_user, secret_of
from shared.broker.device_list import Device, read_devices, write_devices, write_private
from shared.runtime.stack_state import locked

PASSWORD_BYTES: Final = 24  # of randomness


@dataclass(frozen=True, slots=True)
class Access:
    """A folder of passwords. shard: the one whose keys the users may access. Hold `locked` around changes."""

    folder: Path
    shard: str = "s0"

    @property
    def acl_file(self) -> Path:
        """Path of the server's access list."""
        return self.folder / "broker" / "users.acl"

    @property
    def devices_file(self) -> Path:
        """Path of the list of devices that have a credential."""
        return self.folder / "scheduler" / "devices.json"

    def password_file(self, user: str) -> Path:
        """Path of the password of a user: a role of the core, or the operator."""
        return self.folder / user / "password"

    def locked(self) -> AbstractAsyncContextManager[None]:
        """Exclude other processes that change the folder. Entering raises StateError, OSError.

        The lock is in the operator's own folder: in a container only the folders of the users can be written.
        """
        return locked(self.folder / OPERATOR / ".lock")

    def prepare(self) -> None:
        """Create missing passwords and write the access list. Raises OSError, DeviceListError."""
        for user in (*CORE, OPERATOR):
            if not self.password_file(user).is_file():
                write_private(self.password_file(user), new_password() + "\n")
        self._write(list(read_devices(self.devices_file)))

    def devices(self) -> tuple[Device, ...]:
        """All devices, sorted by name. Raises DeviceListError."""
        return tuple(sorted(read_devices(self.devices_file), key=lambda device: device.name))

    def put(self, device: Device) -> Account:
        """Add or replace a device. Returns its account at the broker. Raises OSError, DeviceListError."""
        others = [other for other in self.devices() if other.name != device.name]
        self._write([*others, device])
        return Account(device_user(device.name), device.secret)

    def drop(self, name: str) -> bool:
        """Remove a device; False when there is none of that name. Raises OSError, DeviceListError."""
        devices = self.devices()
        remaining = [device for device in devices if device.name != name]
        if len(remaining) == len(devices):
            return False
        self._write(remaining)
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
    """A password of 192 random bits, in characters that a shell does not interpret."""
    return secrets.token_urlsafe(PASSWORD_BYTES)
