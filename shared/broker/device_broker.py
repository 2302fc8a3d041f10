"""The broker as a device with its own credential uses it: plain commands, no scripts, no session logs.

The core's own devices use `RedisBroker`, and simulated ones `MemoryBroker`. Both have these methods too.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from redis.exceptions import ResponseError

from shared.broker.connections import Argument, Connections
from shared.broker.contract import BrokerAway, BrokerFull, Entry, LeaseLost
from shared.broker.replies import milliseconds, text
from shared.broker.stream_reader import read
from shared.protocol import limits, wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Heartbeat, Message, Span

KEPT_S: Final = 86_400  # expiry of the generation counter, after its last use
ROLE: Final = "draft_worker"
_NOT_NEWER: Final = "equal or smaller"  # XADD's error for an id that does not grow


class DeviceStreams(Protocol):
    """The methods of `contract.Streams` that a device uses."""

    async def push_many(self, stream: str, messages: Sequence[Message]) -> int: ...
    async def read_inbox(self, inbox: str, after: str, count: int, block_s: float) -> list[Entry]: ...
    async def dead_letter(self, entry: Entry, reason: str) -> None: ...
    async def trace(self, spans: Sequence[Span]) -> None: ...


class DeviceHeartbeats(Protocol):
    """The methods of `contract.Heartbeats` that a device uses."""

    async def next_generation(self) -> int: ...
    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None: ...


class DeviceRecords(Protocol):
    """The methods of `contract.Records` that a device uses."""

    async def get(self, key: str) -> dict[str, str]: ...


class DeviceBroker(Protocol):
    """The parts of `contract.Broker` that a device uses."""

    @property
    def streams(self) -> DeviceStreams: ...
    @property
    def presence(self) -> DeviceHeartbeats: ...
    @property
    def records(self) -> DeviceRecords: ...

    async def run_id(self) -> str: ...
    async def close(self) -> None: ...


class RedisDeviceStreams:
    """The draft stream, and the device's inbox."""

    def __init__(self, connections: Connections, stream_limit: int) -> None:
        self._redis, self._limit = connections, stream_limit
        self._room = stream_limit

    async def push_many(self, stream: str, messages: Sequence[Message]) -> int:
        """Add up to the bound. The length is read with each addition, so the bound may be exceeded by a few."""
        if self._room <= 0:
            self._room = self._limit - int(await self._redis.call("XLEN", stream))
        sent = messages[: max(0, self._room)]
        if not sent:
            return 0
        adding: list[tuple[Argument, ...]] = [("XADD", stream, "*", "d", wire.encode(m)) for m in sent]
        try:
            *_, length = await self._redis.calls(*adding, ("XLEN", stream))
        except BrokerFull:  # memory is full; messages added before are sent again, which is harmless
            return 0
        self._room = self._limit - int(length)
        return len(sent)

    async def read_inbox(self, inbox: str, after: str, count: int, block_s: float) -> list[Entry]:
        return await read(self._redis, ("XREAD", "COUNT", count), [inbox], [after], block_s)

    async def dead_letter(self, entry: Entry, reason: str) -> None:
        """Do nothing: only the core's own devices keep dead letters. The entry expires with its inbox."""

    async def trace(self, spans: Sequence[Span]) -> None:
        """Do nothing: only the core's own devices write spans."""


class RedisDeviceHeartbeats:
    """The device's own heartbeat and generations. The core lists its name (`Heartbeats.enlist`)."""

    def __init__(self, connections: Connections, name: str, keys: Keys) -> None:
        self._redis, self._name, self._keys = connections, name, keys

    async def next_generation(self) -> int:
        counter = self._keys.device_generation(self._name)
        seconds, micros = await self._redis.call("TIME")
        begin = int(seconds) * 1000 + int(micros) // 1000  # so that generations grow over a loss of data too
        *_, generation = await self._redis.calls(
            ("EXPIRE", counter, KEPT_S),  # first: a counter that expired before INCR would start at 1
            ("SET", counter, begin, "NX", "EX", KEPT_S),
            ("INCR", counter),
        )
        return int(generation)

    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None:
        """The rules of beat.lua in two steps.

        The first one fences: XADD refuses an id below the newest, which belongs to a newer generation. NX makes a
        heartbeat expire even if its second step never comes, and keeps a newer heartbeat's expiry.
        """
        alive, generation = self._keys.alive(ROLE, self._name), heartbeat.generation
        ttl_ms = milliseconds(ttl_s)
        try:
            await self._redis.calls(
                ("XADD", alive, "MAXLEN", 1, f"{generation}-*", "d", wire.encode(heartbeat)),
                ("PEXPIRE", alive, ttl_ms, "NX"),
            )
        except BrokerFull as error:  # its sessions go on without drafts until memory is free
            raise BrokerAway(str(error)) from error
        except ResponseError as error:
            if _NOT_NEWER not in str(error):
                raise
            raise LeaseLost(f"{ROLE} {self._name} has a newer generation than {generation}") from error
        await self._redis.calls(
            ("PEXPIRE", alive, ttl_ms),
            ("EXPIRE", self._keys.inbox(f"{self._name}:{generation}"), limits.INBOX_KEPT_S),
        )


class RedisDeviceRecords:
    """Records, which a device may only read."""

    def __init__(self, connections: Connections) -> None:
        self._redis = connections

    async def get(self, key: str) -> dict[str, str]:
        return await self._redis.hash(key)


class RedisDevice:
    """One device's connection. Nothing is connected before the first call."""

    def __init__(self, connections: Connections, name: str, shard: str, stream_limit: int) -> None:
        self._redis, self._keys = connections, Keys(shard)
        self.streams = RedisDeviceStreams(connections, stream_limit)
        self.presence = RedisDeviceHeartbeats(connections, name, self._keys)
        self.records = RedisDeviceRecords(connections)

    async def run_id(self) -> str:
        """Identity of the broker's data, which the core writes. Raises BrokerAway while it is missing."""
        birth = await self._redis.call("GET", self._keys.birth)
        if not birth:
            raise BrokerAway("the core has not come up yet")
        return text(birth)

    async def close(self) -> None:
        await self._redis.close()
