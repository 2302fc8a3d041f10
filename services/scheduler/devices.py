"""Devices that joined with their own credentials, read from the file that `outrider devices` keeps."""

from collections.abc import Mapping
from pathlib import Path

import structlog

from shared.broker.device_list import Device, DeviceListError, read_devices

log = structlog.get_logger()


class KnownDevices:
    """The list of joined devices, reread when its file changes. An unreadable file leaves the last good list."""

    def __init__(self, file: str) -> None:
        self._path = Path(file) if file else None
        self._seen: tuple[int, int] | None = None
        self._devices: tuple[Device, ...] = ()

    def expiries(self) -> Mapping[str, int]:
        """Expiry of each device's credential by name, in ms since 1970; 0 = never."""
        self._refresh()
        return {device.name: 1000 * device.expires_s for device in self._devices}

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_ino)
        except OSError:
            seen = (0, 0)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._devices = read_devices(self._path)
        except DeviceListError as error:
            log.error("list of devices not read", why=str(error))
            return
        log.info("devices known", names=[device.name for device in self._devices])


def expiry_message(address: str) -> str:
    """Message to a device whose credential has expired."""
    name = address.rpartition(":")[0]
    return f"the credential of {name!r} has expired; `outrider devices add {name}` makes a new one"
