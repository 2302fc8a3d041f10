"""Requests in flight: counts them, so that a gateway can drain without refusing any."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

IDLE_S: Final = 1.0  # a client that has its answer may send its next request on the same connection
POLL_S: Final = 0.05


class InFlight:
    """Counts requests in flight. draining: responses ask clients to open a new connection for the next request."""

    def __init__(self) -> None:
        self.draining = False
        self._count = 0
        self._last_end_at = 0.0

    @contextmanager
    def track(self) -> Iterator[None]:
        """Count a request as in flight while the context is open."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._last_end_at = asyncio.get_running_loop().time()

    async def wait_idle(self, limit_s: float) -> None:
        """Wait until no request has been in flight for IDLE_S, for limit_s at most."""
        loop = asyncio.get_running_loop()
        end, self._last_end_at = loop.time() + limit_s, loop.time()
        while loop.time() < end and (  # noqa: ASYNC110  # time has to pass, no event tells
            self._count or loop.time() < self._last_end_at + IDLE_S
        ):
            await asyncio.sleep(POLL_S)
