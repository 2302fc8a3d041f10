"""What a device does at the broker, in plain commands: a device's credential runs no scripts and reads no log.

`Broker` does all of this too, so a device runs on a MemoryBroker as well.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from shared.broker.clock_offset import ClockOffset
from shared.broker.connections import Argument, Connections
from shared.broker.contract import BrokerAway, BrokerFull, Entry, LeaseLost
from shared.broker.replies import entries_of, milliseconds, text
from shared.protocol import limits, wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Heartbeat, Message, Span

BLOCK_S: Final = 2.0  # longest single BLOCK; longer waits are made of these
KEPT_S: Final = 86_400  # the counter of generations, after the last of them began
ROLE: Final = "draft_worker"


class DeviceBroker(Protocol):
    """The part of `Broker` that a device uses. See contract.py for what each method means."""

    async def run_id(self) -> str: ...
    async def close(self) -> None: ...
    async def get(self, key: str) -> dict[str, str]: ...
    async def next_generation(self) -> int: ...
    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None: ...
    async def push_many(self, stream: str, messages: Sequence[Message]) -> int: ...
    async def read_inbox(self, inbox: str, after: str, count: int, block_s: float) -> list[Entry]: ...
    async def dead_letter(self, entry: Entry, reason: str) -> None: ...
    async def trace(self, spans: Sequence[Span]) -> None: ...


class RedisDevice:
    """One device's connection. Nothing is connected before the first call.

    at_home: it has the credential of the core's own draft workers, and may write names, refused messages and spans.
    Any other device is known by name to the core, and may write its drafts and its own heartbeat.
    """

    def __init__(
        self, connections: Connections, name: str, shard: str, stream_limit: int, at_home: bool
    ) -> None:
        self._redis, self._name, self._keys, self._limit = connections, name, Keys(shard), stream_limit
        self._at_home = at_home
        self._clock = ClockOffset()
        self._room = stream_limit

    async def run_id(self) -> str:
        """Written by the core; without it there is no core yet."""
        birth = await self._redis.call("GET", self._keys.birth)
        if not birth:
            raise BrokerAway("the core has not come up yet")
        return text(birth)

    async def close(self) -> None:
        await self._redis.close()

    async def get(self, key: str) -> dict[str, str]:
        return await self._redis.hash(key)

    async def next_generation(self) -> int:
        counter = self._keys.device_generation(self._name)
        seconds, micros = await self._redis.call("TIME")
        begin = int(seconds) * 1000 + int(micros) // 1000  # so that it grows over a loss of data too
        _, generation, _ = await self._redis.calls(
            ("SET", counter, begin, "NX"), ("INCR", counter), ("EXPIRE", counter, KEPT_S)
        )
        return int(generation)

    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None:
        alive, generation = self._keys.alive(ROLE, self._name), heartbeat.generation
        loop = asyncio.get_running_loop()
        sent, ttl = loop.time(), milliseconds(ttl_s)
        held, (seconds, micros) = await self._redis.calls(("HGET", alive, "generation"), ("TIME",))
        now_us = int(seconds) * 1_000_000 + int(micros)
        self._clock.observe(sent, loop.time(), now_us)
        if held and int(held) > generation:
            raise LeaseLost(f"{ROLE} {self._name} has a newer generation than {generation}")
        try:
            await self._redis.calls(
                ("HSET", alive, "generation", generation, "d", wire.encode(heartbeat)),
                ("PEXPIRE", alive, ttl),
                ("EXPIRE", self._keys.inbox(f"{self._name}:{generation}"), limits.INBOX_KEPT_S),
                *(self._listing(now_us // 1000, ttl) if self._at_home else ()),
            )
        except BrokerFull as error:  # it serves its sessions without drafts until some have ended
            raise BrokerAway(str(error)) from error

    def _listing(self, now_ms: int, ttl_ms: int) -> tuple[tuple[Argument, ...], ...]:
        names = self._keys.names(ROLE)
        return (
            ("ZADD", names, now_ms + ttl_ms, self._name),
            ("ZREMRANGEBYSCORE", names, "-inf", now_ms),
            ("PEXPIRE", names, ttl_ms),
        )

    async def push_many(self, stream: str, messages: Sequence[Message]) -> int:
        """The stream's length is asked for along with each addition, so the bound may be passed by a few."""
        if self._room <= 0:
            self._room = self._limit - int(await self._redis.call("XLEN", stream))
        sent = messages[: max(0, self._room)]
        if not sent:
            return 0
        adding: list[tuple[Argument, ...]] = [("XADD", stream, "*", "d", wire.encode(m)) for m in sent]
        try:
            *_, length = await self._redis.calls(*adding, ("XLEN", stream))
        except BrokerFull:  # of memory; what was added before is sent again, which does no harm
            return 0
        self._room = self._limit - int(length)
        return len(sent)

    async def read_inbox(self, inbox: str, after: str, count: int, block_s: float) -> list[Entry]:
        block_s = min(block_s, BLOCK_S)
        block: tuple[Argument, ...] = ("BLOCK", max(1, milliseconds(block_s))) if block_s > 0 else ()
        reply = await self._redis.wait(block_s, "XREAD", "COUNT", count, *block, "STREAMS", inbox, after)
        return entries_of(reply)

    async def dead_letter(self, entry: Entry, reason: str) -> None:
        """Kept at the core's own devices only."""
        if self._at_home:
            kept: list[Argument] = ["source", entry.stream, "reason", reason, "size", len(entry.data)]
            kept += ["d", entry.data[: limits.DEAD_BYTES]]
            await self._redis.calls(
                ("XADD", self._keys.dead, "MAXLEN", "~", limits.DEAD_CAP, "*", *kept),
                ("EXPIRE", self._keys.dead, limits.DEAD_KEPT_S),
            )

    async def trace(self, spans: Sequence[Span]) -> None:
        """Written by the core's own devices only."""
        if self._at_home and spans:
            adding: list[tuple[Argument, ...]] = [
                ("XADD", self._keys.trace, "MAXLEN", "~", limits.TRACE_CAP, "*", "d", self._told(span))
                for span in spans
            ]
            await self._redis.calls(*adding, ("EXPIRE", self._keys.trace, limits.TRACE_KEPT_S))

    def _told(self, span: Span) -> bytes:
        return wire.encode(replace(span, offset_us=self._clock.us))
