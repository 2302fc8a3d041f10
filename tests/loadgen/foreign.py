"""A server that says what it is told to, byte for byte, whatever it is asked."""

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
    """Its address. parts: bytes are sent, numbers are seconds to wait."""

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
async def refuses(field: str, status: int, asked: list[dict[str, Any]]) -> AsyncIterator[str]:
    """The address of a server that refuses a field of the request and answers without it. asked: its requests."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked.append(body)
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
    """As events."""
    return b"".join(b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies)


def said(content: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}
