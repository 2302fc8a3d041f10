"""The broker on Redis or Valkey (commands of Redis 7.2), composed of its parts. contract.py describes every method."""

from collections.abc import Mapping

from shared.broker.clock_offset import ClockOffset
from shared.broker.connections import Connections
from shared.broker.redis_heartbeats import RedisHeartbeats
from shared.broker.redis_lease import RedisLease
from shared.broker.redis_session_logs import RedisSessionLogs
from shared.broker.redis_streams import RedisStreams
from shared.broker.replies import text
from shared.protocol.keys import Keys


class RedisRecords:
    """Small hashes of text."""

    def __init__(self, connections: Connections) -> None:
        self._redis = connections

    async def put(self, key: str, fields: Mapping[str, str]) -> None:
        await self._redis.run("put", [key], *(part for pair in fields.items() for part in pair))

    async def get(self, key: str) -> dict[str, str]:
        return await self._redis.hash(key)


class RedisBroker:
    """One process's connection to the broker; nothing is connected before the first call."""

    def __init__(self, connections: Connections | str, shard: str = "s0", stream_limit: int = 4096) -> None:
        redis = Connections(connections) if isinstance(connections, str) else connections
        keys, clock = Keys(shard), ClockOffset()
        self.streams = RedisStreams(redis, keys, stream_limit, clock)
        self.sessions = RedisSessionLogs(redis, keys, stream_limit)
        self.lease = RedisLease(redis, keys, stream_limit)
        self.presence = RedisHeartbeats(redis, keys, clock)
        self.records = RedisRecords(redis)
        self._redis, self._keys = redis, keys

    async def run_id(self) -> str:
        return text(await self._redis.run("identity", [self._keys.birth]))

    async def ping(self) -> float:
        return await self._redis.ping()

    async def close(self) -> None:
        await self._redis.close()
