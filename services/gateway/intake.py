"""Parses bodies and tokenizes prompts: short ones inline, long ones on a thread, with a bounded queue."""

from collections.abc import Callable
from typing import Final, TypeVar

from pydantic import BaseModel

from services.gateway.bounds import WorkBounds, bounds_of
from services.gateway.errors import unavailable
from services.gateway.openai_schema import parse
from shared.compute.compute import Compute
from shared.runtime.settings import GatewaySettings

INLINE_CHARS: Final = 8192  # longer texts take milliseconds and would block all other requests
INLINE_BODY: Final = 2048  # bytes; the bound holds for the slowest case, a body with an error in every value

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class Intake:
    """Runs parsing and tokenizing jobs. limit: maximum number of long jobs running or waiting."""

    def __init__(self, compute: Compute, bounds: WorkBounds, limit: int) -> None:
        self.bounds = bounds
        self._compute = compute
        self._limit = limit
        self._waiting = 0

    @classmethod
    def of(cls, settings: GatewaySettings, compute: Compute) -> "Intake":
        """An intake with the bounds that the settings give."""
        return cls(compute, bounds_of(settings), settings.max_long_requests)

    async def parse(self, kind: type[M], body: bytes) -> M:
        """Parse and validate an untrusted body. Raises ApiError."""

        def job() -> M:
            self.bounds.check_body(body)
            return parse(kind, body)

        return job() if len(body) <= INLINE_BODY else await self._off_loop(job)

    async def run(self, cost: int, job: Callable[[], T]) -> T:
        """Run a job. cost: about how many characters it handles. Raises ApiError 503, and what the job raises."""
        return job() if cost <= INLINE_CHARS else await self._off_loop(job)

    async def finish(self, cost: int, job: Callable[[], T]) -> T:
        """Run the final job of an admitted request: as `run`, but never refused."""
        return job() if cost <= INLINE_CHARS else await self._compute.run(job)

    async def _off_loop(self, job: Callable[[], T]) -> T:
        if self._waiting >= self._limit:
            raise unavailable(f"{self._waiting} long requests are waiting to be read", code="too_busy")
        self._waiting += 1
        try:
            return await self._compute.run(job)
        finally:
            self._waiting -= 1
