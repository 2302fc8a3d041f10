"""The broker in memory, for tests and simulation: the behaviour of RedisBroker without a process.

Messages pass as bytes through `wire`, as they do there; MemoryServer says what a simulation may leave out.
contract.py describes every method.
"""

import asyncio
from collections.abc import Mapping, Sequence

from shared.broker.checks import heartbeats
from shared.broker.clock_offset import ClockOffset
from shared.broker.memory_link import BrokerLink, Direct, MemoryConnection
from shared.broker.memory_scripts import MemoryScripts
from shared.broker.memory_server import MemoryServer
from shared.broker.memory_session_logs import MemorySessionLogs
from shared.broker.memory_streams import MemoryStreams
from shared.protocol.keys import Keys
from shared.protocol.messages import Heartbeat, Role, StagedBatch

__all__ = ["BrokerLink", "MemoryBroker", "MemoryServer"]


class MemoryLease:
    """The lease, and the staging that it fences."""

    def __init__(self, connection: MemoryConnection, scripts: MemoryScripts) -> None:
        self._connection, self._scripts = connection, scripts

    async def acquire(self, holder: str, ttl_s: float) -> int:
        return await self._connection.do("acquire_lease", lambda: self._scripts.acquire(holder, ttl_s))

    async def renew(self, holder: str, term: int, ttl_s: float) -> bool:
        return await self._connection.do("renew_lease", lambda: self._scripts.renew(holder, term, ttl_s))

    async def release(self, holder: str, term: int) -> None:
        await self._connection.do("release_lease", lambda: self._scripts.release(holder, term))

    async def stage(self, verifier: str, batch: StagedBatch, drafts: Sequence[str], holder: str) -> None:
        data = self._connection.server.encode(batch)
        await self._connection.do(
            "stage", lambda: self._scripts.stage(verifier, data, drafts, holder), len(data)
        )


class MemoryHeartbeats:
    """Heartbeats and generations."""

    def __init__(
        self, connection: MemoryConnection, scripts: MemoryScripts, keys: Keys, clock: ClockOffset
    ) -> None:
        self._connection, self._scripts, self._keys, self._clock = connection, scripts, keys, clock
        self._server = connection.server

    async def next_generation(self) -> int:
        return await self._connection.do(
            "next_generation", lambda: self._server.next_number(self._keys.generation)
        )

    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None:
        loop = asyncio.get_running_loop()
        sent, data = loop.time(), self._server.encode(heartbeat)
        broker_us = await self._connection.do(
            "beat", lambda: self._scripts.beat(heartbeat, data, ttl_s), len(data)
        )
        self._clock.observe(sent, loop.time(), broker_us)

    async def leave(self, role: Role, name: str, generation: int) -> None:
        await self._connection.do("leave", lambda: self._scripts.leave(role, name, generation))

    async def alive(self, role: Role) -> list[Heartbeat]:
        messages = await self._connection.do(
            "alive", lambda: self._scripts.alive(role), received=lambda found: sum(map(len, found))
        )
        return heartbeats(messages)

    async def enlist(self, expiries: Mapping[str, int]) -> list[str]:
        return await self._connection.do("enlist", lambda: self._scripts.enlist(expiries))


class MemoryRecords:
    """Small hashes of text."""

    def __init__(self, connection: MemoryConnection, scripts: MemoryScripts) -> None:
        self._connection, self._scripts, self._server = connection, scripts, connection.server

    async def put(self, key: str, fields: Mapping[str, str]) -> None:
        await self._connection.do("put", lambda: self._scripts.put(key, fields))

    async def get(self, key: str) -> dict[str, str]:
        return await self._connection.do("get", lambda: dict(self._server.get(key, dict) or {}))


class MemoryBroker:
    """One process's connection to a MemoryServer."""

    def __init__(
        self,
        server: MemoryServer,
        shard: str = "s0",
        stream_limit: int = 4096,
        link: BrokerLink | None = None,
        connection: MemoryConnection | None = None,
    ) -> None:
        """connection: over the link, None = an ordinary one."""
        link = link or Direct()
        keys, clock = Keys(shard), ClockOffset()
        scripts = MemoryScripts(server, keys, stream_limit, link.copies)
        connection = connection or MemoryConnection(server, link)
        self.streams = MemoryStreams(connection, scripts, clock)
        self.sessions = MemorySessionLogs(connection, scripts, keys)
        self.lease = MemoryLease(connection, scripts)
        self.presence = MemoryHeartbeats(connection, scripts, keys, clock)
        self.records = MemoryRecords(connection, scripts)
        self._connection = connection

    async def run_id(self) -> str:
        return await self._connection.do("run_id", lambda: self._connection.server.run_id)

    async def ping(self) -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await self._connection.do("ping", lambda: None)
        return loop.time() - start

    async def close(self) -> None:
        self._connection.close()
