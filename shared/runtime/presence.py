"""A process's heartbeat: it says who is there, and it is how a newer incarnation displaces an older one."""

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
    """A newer process has this one's name: this one has to stop."""


class HeartbeatSink(Protocol):
    """Where heartbeats go: a broker, as the core or as a device sees it."""

    async def beat(self, heartbeat: Heartbeat, ttl_s: float) -> None:
        """Store a heartbeat for ttl_s. Raises LeaseLost when a newer generation has the name, BrokerAway."""
        ...


class Presence:
    """Beats every HEARTBEAT_S with whatever `make` says then."""

    def __init__(self, broker: HeartbeatSink, make: Callable[[], Heartbeat]) -> None:
        self._broker = broker
        self._make = make

    async def announce(self) -> None:
        """Beat once, and be seen by whoever looks from now on. Raises Superseded, BrokerAway."""
        heartbeat = self._make()
        try:
            await self._broker.beat(heartbeat, HEARTBEAT_TTL_S)
        except LeaseLost:
            raise Superseded(f"a newer {heartbeat.role} has the name {heartbeat.name!r}") from None

    async def beat(self) -> None:
        """Beat once. Raises Superseded; a broker that is away is the watch's business."""
        try:
            await self.announce()
        except BrokerAway as error:
            log.debug("heartbeat missed", why=str(error))

    async def run(self, stop: asyncio.Event) -> None:
        """Beat until stop is set."""
        while not stop.is_set():
            await self.beat()
            await pause(stop, HEARTBEAT_S)
