"""The brokers of the contract suite behind one interface: in memory, on a server, and a server seen by a device."""

from typing import Any, Protocol

import pytest
from redis.asyncio import Redis

from shared.broker.access import device_user
from shared.broker.connections import Connections
from shared.broker.contract import Broker
from shared.broker.device_broker import DeviceBroker, RedisDevice
from shared.broker.memory_broker import MemoryBroker, MemoryServer
from shared.broker.memory_scripts import Beat
from shared.broker.redis_broker import RedisBroker
from shared.protocol.keys import Keys

# Of a test of what a device does: each kind of device, against the contract that all brokers have.
FOR_DEVICES = pytest.mark.parametrize(
    "world",
    [
        "memory",
        "redis",
        "device",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("other", "other_device")),
    ],
    indirect=True,
)
LIMIT = 64  # entries a work stream holds in these tests
DEVICES = ("pi", "mac")  # the names that have a credential on a server with users
TESTER = "tester"  # a user of such a server that may do everything


class World(Protocol):
    """A broker server, and what a test may do to it."""

    broker: Broker
    keys: Keys

    async def another(self) -> Broker:
        """One more connection."""
        ...

    def device(self, name: str) -> DeviceBroker:
        """A connection of one of DEVICES."""
        ...

    async def keys_without_expiry(self) -> set[str]:
        """Keys without expiry."""
        ...

    async def ttl(self, key: str) -> float:
        """Seconds until a key expires; -1 when never, -2 when there is none."""
        ...

    async def memory_full(self, full: bool) -> None:
        """Fill the server's memory, or free it."""
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

    def device(self, name: str) -> DeviceBroker:
        return MemoryBroker(self.server, stream_limit=LIMIT)

    async def keys_without_expiry(self) -> set[str]:
        return self.server.keys_without_expiry()

    async def ttl(self, key: str) -> float:
        return self.server.ttl(key)

    async def memory_full(self, full: bool) -> None:
        self.server.full = full

    async def spoil(self, role: str, name: str) -> None:
        self.server.put(self.keys.alive(role, name), Beat(1, b"\x01garbage"))


class RedisWorld:
    """A server whose devices are the core's own. url: of a user with all rights."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys = Keys()
        self.opened: list[DeviceBroker] = []
        self.broker: Broker = self._new()
        self.raw: Any = Redis.from_url(url, protocol=2)  # its annotations leave open what is bytes

    def _new(self) -> RedisBroker:
        broker = RedisBroker(self.url, stream_limit=LIMIT)
        self.opened.append(broker)
        return broker

    async def another(self) -> Broker:
        return self._new()

    def device(self, name: str) -> DeviceBroker:
        return self._new()

    async def keys_without_expiry(self) -> set[str]:
        return {key.decode() for key in await self.raw.keys("*") if await self.raw.ttl(key) == -1}

    async def ttl(self, key: str) -> float:
        left = await self.raw.pttl(key)
        return left / 1000 if left > 0 else left

    async def memory_full(self, full: bool) -> None:
        await self.raw.config_set("maxmemory", 1 if full else 0)

    async def spoil(self, role: str, name: str) -> None:
        newest = (await self.raw.xrevrange(self.keys.alive(role, name), count=1))[0][0]
        await self.raw.xadd(
            self.keys.alive(role, name), {"d": b"\x01garbage"}, f"{newest.decode().partition('-')[0]}-*"
        )

    async def close(self) -> None:
        await self.raw.config_set("maxmemory", 0)
        for broker in self.opened:
            await broker.close()
        await self.raw.aclose()


class DeviceWorld(RedisWorld):
    """A server with users. Its devices have credentials of their own, and the rights of access.py."""

    def device(self, name: str) -> DeviceBroker:
        return self.device_on(Connections(self.url, device_user(name), device_user(name)), name)

    def device_on(self, connections: Connections, name: str) -> RedisDevice:
        """A device on given connections."""
        device = RedisDevice(connections, name, "s0", LIMIT)
        self.opened.append(device)
        return device
