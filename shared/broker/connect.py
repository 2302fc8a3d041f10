"""The broker that a service's settings name."""

from shared.broker.redis_broker import RedisBroker
from shared.runtime.settings import Common


def connect(settings: Common) -> RedisBroker:
    """A connection to the broker of these settings; nothing is connected before the first call.

    Raises ValueError when the address is none (redis://, rediss:// or unix:// are).
    """
    return RedisBroker(settings.broker_url, settings.shard, settings.stream_limit)
