"""Connections to the broker that a service's settings name."""

from pathlib import Path
from typing import Final

from shared.broker.connections import MAX_CALLS, Connections
from shared.broker.device_broker import DeviceBroker, RedisDevice
from shared.broker.redis_broker import RedisBroker
from shared.runtime.address import broker_url
from shared.runtime.settings import Common, DraftWorkerSettings, SettingsError

# One connection for drafts and one for periodic calls. Without a limit, devices that were held up for a moment would
# open one connection per task; a core may serve thousands of devices.
DEVICE_CALLS: Final = 2


def connect(settings: Common) -> RedisBroker:
    """The core's broker client. It connects on the first call. Raises SettingsError."""
    return RedisBroker(_connections(settings), settings.shard, settings.stream_limit)


def connect_device(settings: DraftWorkerSettings, name: str) -> DeviceBroker:
    """A device's broker client. It connects on the first call. Raises SettingsError.

    A device that has joined from elsewhere has rights of its own; the core's own devices have those of their role.
    """
    connections = _connections(settings, DEVICE_CALLS)
    if settings.joined:
        return RedisDevice(connections, name, settings.shard, settings.stream_limit)
    return RedisBroker(connections, settings.shard, settings.stream_limit)


def _connections(settings: Common, max_calls: int = MAX_CALLS) -> Connections:
    try:
        password = _password(settings.broker_password_file)
        return Connections(broker_url(settings.broker_url), settings.broker_user, password, max_calls)
    except ValueError as error:
        raise SettingsError(f"OUTRIDER_BROKER_URL: {error}") from error  # it may hold a password: not shown


def _password(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip() if file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"OUTRIDER_BROKER_PASSWORD_FILE: {error}") from None
