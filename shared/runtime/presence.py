"""A process's heartbeat: announces that it is alive, and lets a newer incarnation displace an older one."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from shared.broker.contract import BrokerAway, LeaseLost
from shared.protocol.limits import HEARTBEAT_S, HEARTBEAT_TTL_S
from shared.protocol.messages import Heartbeat
from shared.runtime.pause import pause

log = structlog.get_logger()


class Superseded(RuntimeError):
    """A newer process has this one's name, so this one must stop."""


class HeartbeatSink(Protocol):
    """Stores heartbeats: the presence part of a broker, as the core or a device sees it."""

    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None:
        """Store a heartbeat for ttl_s. Raises LeaseLost when a newer generation has the name, BrokerAway."""
        ...


class Presence:
    """Sends a heartbeat made by `make` every HEARTBEAT_S."""

    def __init__(self, sink: HeartbeatSink, make: Callable[[], Heartbeat]) -> None:
        self._sink = sink
        self._make = make

    async def announce(self) -> None:
        """Send one heartbeat, so that the process is listed as alive. Raises Superseded, BrokerAway."""
        heartbeat = self._make()
        try:
            await self._sink.beat(heartbeat, HEARTBEAT_TTL_S)
        except LeaseLost:
            if self._make().generation > heartbeat.generation:
                return  # the newer one is ours: this beat was under way when we registered again
            raise Superseded(f"a newer {heartbeat.role} has the name {heartbeat.name!r}") from None

    async def beat(self) -> None:
        """Send one heartbeat. Raises Superseded. Ignores a broker that is away, which the watch handles."""
        try:
            await self.announce()
        except BrokerAway as error:
            log.debug("heartbeat missed", why=str(error))

    async def run(self, stop: asyncio.Event) -> None:
        """Send heartbeats until stop is set. Raises Superseded."""
        while not stop.is_set():
            await self.beat()
            await pause(stop, HEARTBEAT_S)
