"""Both brokers behind one face, for tests."""

from typing import Any, Protocol

from redis.asyncio import Redis

from shared.broker.contract import Broker
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.broker.memory_scripts import Beat
from shared.broker.redis_broker import RedisBroker
from shared.protocol.keys import Keys

LIMIT = 64  # entries a work stream holds in these tests


class World(Protocol):
    """A broker server, and what a test may do to it besides using it."""

    broker: Broker
    keys: Keys

    async def another(self) -> Broker:
        """One more connection."""
        ...

    async def lasting(self) -> set[str]:
        """Keys without expiry."""
        ...

    async def ttl(self, key: str) -> float:
        """Seconds until a key goes; -1 when never, -2 when there is none."""
        ...

    async def memory_full(self, full: bool) -> None:
        """Leave the server no memory, or give it back."""
        ...

    async def spoil(self, role: str, name: str) -> None:
        """Make a heartbeat undecodable."""
        ...


class MemoryWorld:
    def __init__(self) -> None:
        self.keys = Keys()
        self.server = MemoryServer()
        self.broker: Broker = MemoryBroker(self.server, stream_limit=LIMIT)

    async def another(self) -> Broker:
        return MemoryBroker(self.server, stream_limit=LIMIT)

    async def lasting(self) -> set[str]:
        return self.server.lasting()

    async def ttl(self, key: str) -> float:
        return self.server.ttl(key)

    async def memory_full(self, full: bool) -> None:
        self.server.full = full

    async def spoil(self, role: str, name: str) -> None:
        self.server.put(self.keys.alive(role, name), Beat(1, b"\x01garbage"))


class RedisWorld:
    def __init__(self, url: str) -> None:
        self.url = url
        self.keys = Keys()
        self.brokers: list[RedisBroker] = []
        self.broker: Broker = self._new()
        self.raw: Any = Redis.from_url(url, protocol=2)  # its annotations leave open what is bytes

    def _new(self) -> RedisBroker:
        self.brokers.append(RedisBroker(self.url, stream_limit=LIMIT))
        return self.brokers[-1]

    async def another(self) -> Broker:
        return self._new()

    async def lasting(self) -> set[str]:
        return {key.decode() for key in await self.raw.keys("*") if await self.raw.ttl(key) == -1}

    async def ttl(self, key: str) -> float:
        left = await self.raw.pttl(key)
        return left / 1000 if left > 0 else left

    async def memory_full(self, full: bool) -> None:
        await self.raw.config_set("maxmemory", 1 if full else 0)

    async def spoil(self, role: str, name: str) -> None:
        await self.raw.hset(self.keys.alive(role, name), "d", b"\x01garbage")

    async def close(self) -> None:
        await self.raw.config_set("maxmemory", 0)
        for broker in self.brokers:
            await broker.close()
        await self.raw.aclose()
