"""How a gateway closes without turning anybody away: who is inside, and whether the next is to go elsewhere."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

IDLE_S: Final = 1.0  # a client whose answer is there may ask again on the same connection: wait for that
POLL_S: Final = 0.05


class InFlight:
    """Counts requests under way. closing: answers tell clients to open another connection for the next request."""

    def __init__(self) -> None:
        self.draining = False
        self._count = 0
        self._last_end_at = 0.0

    @contextmanager
    def track(self) -> Iterator[None]:
        """While a request is being handled."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._last_end_at = asyncio.get_running_loop().time()

    async def wait_idle(self, limit_s: float) -> None:
        """Until nobody has been inside for a while, or so long."""
        loop = asyncio.get_running_loop()
        end, self._last_end_at = loop.time() + limit_s, loop.time()
        while loop.time() < end and (  # noqa: ASYNC110  # time has to pass, no event tells
            self._count or loop.time() < self._last_end_at + IDLE_S
        ):
            await asyncio.sleep(POLL_S)
