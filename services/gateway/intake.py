"""Bodies parsed and prompts tokenized: short ones at once, long ones off the event loop, a few at a time."""

from collections.abc import Callable
from typing import Final, TypeVar

from pydantic import BaseModel

from services.gateway.bounds import WorkBounds
from services.gateway.errors import unavailable
from services.gateway.openai_schema import parse
from shared.compute.compute import Compute

INLINE_CHARS: Final = 8192  # more takes milliseconds, in which no other request would get anywhere
INLINE_BODY: Final = 2048  # bytes; a body that is wrong in every value is the worst of its length

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class Intake:
    """limit: long jobs that may wait for each other, or be under way."""

    def __init__(self, compute: Compute, bounds: WorkBounds, limit: int) -> None:
        self.bounds = bounds
        self._compute = compute
        self._limit = limit
        self._waiting = 0

    async def parse(self, kind: type[M], body: bytes) -> M:
        """A request from bytes of unknown origin. Raises ApiError."""

        def job() -> M:
            self.bounds.check_body(body)
            return parse(kind, body)

        return job() if len(body) <= INLINE_BODY else await self._off_loop(job)

    async def run(self, cost: int, job: Callable[[], T]) -> T:
        """job's result, cost: about so many characters have to be handled. Raises ApiError 503, and what job raises."""
        return job() if cost <= INLINE_CHARS else await self._off_loop(job)

    async def finish(self, cost: int, job: Callable[[], T]) -> T:
        """`run` for what a request under way needs in the end: it is not refused."""
        return job() if cost <= INLINE_CHARS else await self._compute.run(job)

    async def _off_loop(self, job: Callable[[], T]) -> T:
        if self._waiting >= self._limit:
            raise unavailable(f"{self._waiting} long requests are waiting to be read", code="too_busy")
        self._waiting += 1
        try:
            return await self._compute.run(job)
        finally:
            self._waiting -= 1
