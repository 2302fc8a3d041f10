"""Further processes of a role in a local stack, and a load balancer like a Kubernetes Service."""

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Final

import aiohttp
from redis.asyncio import Redis

from cli.stack.processes import Supervised
from cli.stack.stack import LocalStack, Ports, specs
from services.scheduler.scheduler import FLEET_FRESH_S

POLL_S: Final = 0.1
READY_S: Final = 60.0


async def another(stack: LocalStack, role: str, name: str) -> Supervised:
    """Start a second process of this role, and wait until it is ready and no scheduler's knowledge is older.

    The stack stops it; nobody restarts it.
    """
    spec = next(spec for spec in specs(stack.options) if spec.name == role)
    ports = Ports.free()
    own = {
        "OUTRIDER_NAME": name,
        "OUTRIDER_HEALTH_PORT": str(ports.health),
        "OUTRIDER_PORT": str(ports.gateway),
    }
    ready = f"http://127.0.0.1:{ports.health}/readyz"
    spec = replace(spec, name=name, env={**spec.env, **own}, ready_url=ready)
    process = Supervised(spec, stack.options.state_dir / "logs")
    stack.processes[name] = process
    await process.start()
    async with asyncio.timeout(READY_S), aiohttp.ClientSession() as session:
        while not await is_ready(session, ready):
            assert process.pid, process.last_words()
            await asyncio.sleep(POLL_S)
    await asyncio.sleep(2 * FLEET_FRESH_S)
    return process


async def is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    """Whether a service's readiness probe is answered with 200."""
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def sessions_by_verifier(stack: LocalStack) -> Counter[str]:
    """Number of open sessions, by the verifier in their logs."""
    placed: Counter[str] = Counter()
    async with Redis.from_url(stack.broker_url, decode_responses=True) as redis:
        for session in await redis.smembers("or:{s0}:live"):
            assert not isinstance(session, bytes)
            verifier = await redis.hget(f"or:{{s0}}:session:{session}", "verifier")
            assert not isinstance(verifier, bytes)
            placed[verifier or ""] += 1
    return placed


class Balancer:
    """Forwards each new connection to the next gateway that is ready."""

    def __init__(self, gateways: dict[str, str]) -> None:
        """gateways: readiness URL by "host:port"."""
        self.gateways = gateways
        self.passed: Counter[str] = Counter()
        self._ready: list[str] = []

    async def __aenter__(self) -> "Balancer":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._looking = asyncio.create_task(self._look())
        async with asyncio.timeout(READY_S):
            while not self._ready:
                await asyncio.sleep(0.01)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._looking.cancel()
        self._server.close()
        await asyncio.gather(self._looking, return_exceptions=True)

    @property
    def url(self) -> str:
        """URL for clients."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _look(self) -> None:
        timeout = aiohttp.ClientTimeout(total=1.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                found = [where for where, url in self.gateways.items() if await is_ready(session, url)]
                self._ready = found
                await asyncio.sleep(POLL_S)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await self._open()
        await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer))

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the next ready gateway. One that refuses the connection has just ended and is skipped."""
        while True:
            where = self._ready[sum(self.passed.values()) % len(self._ready)]
            self.passed[where] += 1
            host, _, port = where.rpartition(":")
            try:
                return await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                self._ready.remove(where)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
