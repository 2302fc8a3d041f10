"""The broker that a service's settings name."""

from shared.broker.redis_broker import RedisBroker
from shared.runtime.settings import Common, SettingsError


def connect(settings: Common) -> RedisBroker:
    """A connection to the broker of these settings; nothing is connected before the first call.

    Raises SettingsError when the address is none (redis://, rediss:// or unix:// are).
    """
    try:
        return RedisBroker(settings.broker_url, settings.shard, settings.stream_limit)
    except ValueError as error:
        raise SettingsError(f"OUTRIDER_BROKER_URL: {error}") from error  # it may hold a password: not shown
