"""Errors of the HTTP server in our own format."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from shared.runtime.http_runner import HttpRunner

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """Port of a server with one page."""
    app = web.Application()
    app.add_routes([web.route("*", "/page", handler)])
    runner = HttpRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def ask(port: int, request: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return answer.decode()


async def page(_: web.Request) -> web.Response:
    return web.Response(text="fine")


async def broken(_: web.Request) -> web.Response:
    raise ZeroDivisionError("by nobody")


async def test_a_page_is_served() -> None:
    async with serving(page) as port:
        assert (await ask(port, b"GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).endswith(
            "\r\n\r\nfine"
        )


async def test_what_is_too_long_is_431_and_quoted_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(page) as port:
        with capture_logs() as logged:
            answer = await ask(port, b"GET /page?" + b"secret" * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert " 431 " in answer.splitlines()[0]
    assert answer.endswith("The URL or a header is longer than 8190 bytes.\n")
    assert [(line["event"], line["error"]) for line in logged] == [("request refused", "LineTooLong")]
    assert "secret" not in answer + str(logged) + caplog.text


async def test_a_handler_that_fails_is_logged_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(broken) as port:
        with capture_logs() as logged:
            answer = await ask(port, b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
    assert " 500 " in answer.splitlines()[0]
    assert "nobody" not in answer
    assert [line["event"] for line in logged] == ["request failed"]
    assert isinstance(logged[0]["exc_info"], ZeroDivisionError)
    assert caplog.records == []
