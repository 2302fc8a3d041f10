"""A request's body."""

import asyncio
from typing import Final

from aiohttp import web

from services.gateway.errors import ApiError

BODY_S: Final = 30.0  # it has to be here by then


async def read_body(request: web.Request) -> bytes:
    """All of it, in bounded time. Raises ApiError 408."""
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise ApiError(408, f"The body did not come within {BODY_S:.0f} s.", code="timeout") from None
