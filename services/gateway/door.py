"""How a gateway closes without turning anybody away: who is inside, and whether the next is to go elsewhere."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

QUIET_S: Final = 1.0  # a client whose answer is there may ask again on the same connection: wait for that
LOOK_S: Final = 0.05


class Door:
    """Counts requests under way. closing: answers tell clients to open another connection for the next request."""

    def __init__(self) -> None:
        self.closing = False
        self._inside = 0
        self._left_at = 0.0

    @contextmanager
    def inside(self) -> Iterator[None]:
        """While a request is being handled."""
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._left_at = asyncio.get_running_loop().time()

    async def empty(self, limit_s: float) -> None:
        """Until nobody has been inside for a while, or so long."""
        loop = asyncio.get_running_loop()
        end, self._left_at = loop.time() + limit_s, loop.time()
        while loop.time() < end and (  # noqa: ASYNC110  # time has to pass, no event tells
            self._inside or loop.time() < self._left_at + QUIET_S
        ):
            await asyncio.sleep(LOOK_S)
