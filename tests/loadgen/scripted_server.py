"""A server that sends given bytes, whatever the request."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


@asynccontextmanager
async def speaks(
    *parts: bytes | float, status: int = 200, stays_open: bool = False, headers: dict[str, str] | None = None
) -> AsyncIterator[str]:
    """The server's URL. parts: bytes to send, or seconds to wait."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            status=status, headers={"Content-Type": "text/event-stream", **(headers or {})}
        )
        await response.prepare(request)
        for part in parts:
            await (response.write(part) if isinstance(part, bytes) else asyncio.sleep(part))
        if stays_open:
            await asyncio.sleep(60)
        return response

    async with _serving(answer) as url:
        yield url


@asynccontextmanager
async def refuses(field: str, status: int, bodies: list[dict[str, Any]]) -> AsyncIterator[str]:
    """The URL of a server that rejects requests with this field. bodies: receives its requests."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        bodies.append(body)
        if field in body:
            return web.json_response({"detail": f"{field}: extra fields not permitted"}, status=status)
        data = sse({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}) + b"data: [DONE]\n\n"
        return web.Response(body=data, content_type="text/event-stream")

    async with _serving(answer) as url:
        yield url


@asynccontextmanager
async def _serving(answer: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"


def sse(*bodies: Any) -> bytes:
    """Bodies as server-sent events."""
    return b"".join(b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies)


def said(content: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}
