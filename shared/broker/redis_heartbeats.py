"""Heartbeats on Redis or Valkey. contract.py describes every method."""

import asyncio
from collections.abc import Mapping

from shared.broker.checks import heartbeats
from shared.broker.clock_offset import ClockOffset
from shared.broker.connections import Argument, Connections
from shared.broker.contract import LeaseLost
from shared.broker.replies import milliseconds, text
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.messages import Heartbeat, Role


class RedisHeartbeats:
    """Heartbeats and generations. Each heartbeat is also a sample for the clock's offset."""

    def __init__(self, connections: Connections, keys: Keys, clock: ClockOffset) -> None:
        self._redis, self._keys, self._clock = connections, keys, clock

    async def next_generation(self) -> int:
        return int(await self._redis.run("generation", [self._keys.generation]))

    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None:
        role, name = heartbeat.role, heartbeat.name
        keys = [
            self._keys.alive(role, name),
            self._keys.names(role),
            *self._keys.own(role, f"{name}:{heartbeat.generation}"),
        ]
        loop = asyncio.get_running_loop()
        sent, packed = loop.time(), wire.encode(heartbeat)
        broker_us = int(
            await self._redis.run("beat", keys, heartbeat.generation, packed, milliseconds(ttl_s), name)
        )
        if broker_us:
            self._clock.observe(sent, loop.time(), broker_us)
        else:
            raise LeaseLost(f"{role} {name} has a newer generation than {heartbeat.generation}")

    async def leave(self, role: Role, name: str, generation: int) -> None:
        await self._redis.run(
            "leave", [self._keys.alive(role, name), self._keys.names(role)], generation, name
        )

    async def alive(self, role: Role) -> list[Heartbeat]:
        names = [text(name) for name in await self._redis.call("ZRANGE", self._keys.names(role), 0, -1)]
        if not names:
            return []
        return heartbeats(await self._redis.run("alive", [self._keys.alive(role, name) for name in names]))

    async def enlist(self, expiries: Mapping[str, int]) -> list[str]:
        if not expiries:
            return []
        keys = [self._keys.names("draft_worker")]
        keys += [self._keys.alive("draft_worker", name) for name in expiries]
        arguments: list[Argument] = [part for pair in expiries.items() for part in pair]
        return [text(address) for address in await self._redis.run("enlist", keys, *arguments)]
