"""Errors of the command line when a gateway refuses, is silent, or is no gateway."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from cli.admin import Admin
from cli.command.errors import CommandError
from cli.gateway_client import LINE_BYTES, GatewayClient, data_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Run a server with this handler for all paths; yields its URL with /v1, as `up` prints it."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def answering(status: int, body: object) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    return handler


def streaming(*chunks: bytes, then: Callable[[], Awaitable[None]] | None = None) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if then is not None:
            await then()
        return response

    return handler


async def silent() -> None:
    await asyncio.Event().wait()


async def events(url: str, idle_s: float = 5) -> list[dict[str, object]]:
    async with GatewayClient(url, idle_s=idle_s) as client:
        return [event async for event in client.events("/v1/chat/completions", {})]


@pytest.mark.parametrize(
    ("key", "path", "words"),
    [
        ("", "/v1/models", "requires an API key: give --api-key KEY or set OUTRIDER_API_KEY (No key.)"),
        ("", "/admin/status", "requires an admin key: give --api-key KEY or set OUTRIDER_API_KEY (No key.)"),
        (
            "k",
            "/v1/models",
            "does not accept the key of --api-key or OUTRIDER_API_KEY as an API key (No key.)",
        ),
    ],
)
async def test_a_gateway_with_keys_is_told_how_to_be_given_one(key: str, path: str, words: str) -> None:
    async with (
        serving(answering(401, {"error": {"message": "No key."}})) as url,
        GatewayClient(url, key) as client,
    ):
        with pytest.raises(CommandError) as raised:
            await client.call("GET", path)
    assert str(raised.value) == f"{url.removesuffix('/v1')} {words}"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, {"error": {"message": "k: too large"}}, "k: too large"),
        (400, {"error": "k: too large"}, "k: too large"),
        (503, {"error": None}, "None"),
        (404, ["no"], "HTTP 404 Not Found from /v1/models"),
        (200, ["no"], "/v1/models does not return a JSON object"),
    ],
)
async def test_what_a_server_says_is_passed_on(status: int, body: object, words: str) -> None:
    async with serving(answering(status, body)) as url, GatewayClient(url) as client:
        with pytest.raises(CommandError) as raised:
            await client.call("GET", "/v1/models")
    assert words in str(raised.value)


async def test_a_page_that_is_no_json_is_no_gateway() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    async with serving(page) as url, GatewayClient(url) as client:
        with pytest.raises(CommandError, match="does not answer like an Outrider gateway"):
            await client.call("GET", "/v1/models")


async def test_a_status_that_is_another_servers_says_what_it_lacks() -> None:
    async with serving(answering(200, {"policy": {}})) as url, Admin(url) as admin:
        with pytest.raises(CommandError, match="/admin/status lacks devices, sessions, totals, verifiers"):
            await admin.status()


async def test_nobody_there_is_said_with_the_reason() -> None:
    async with serving(answering(200, {})) as url:
        pass
    async with GatewayClient(url) as client:
        with pytest.raises(CommandError, match=r"no answer from http://127\.0\.0\.1:\d+: Connection refused"):
            await client.call("GET", "/v1/models")


async def test_a_long_line_comments_and_both_forms_of_data_are_read() -> None:
    long = b"x" * 300_000
    chunks = (
        b": wait\n\n",
        b'data:{"a": 1}\n\n',
        b'event: e\ndata: {"b": "' + long + b'"}\r\n\r\n',
        b"data: [DONE]\n\n",
    )
    async with serving(streaming(*chunks)) as url:
        assert await events(url) == [{"a": 1}, {"b": long.decode()}]


async def test_a_connection_kept_open_after_the_end_is_not_waited_for() -> None:
    async with serving(streaming(b"data: [DONE]\n\n", then=silent)) as url:
        assert await events(url) == []


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ((b'data: {"a": 1}\n\n',), "the stream ended without [DONE]"),
        ((b'data: {"error": {"message": "gone"}}\n\n',), "gone"),
        ((b'data: {"error": "gone"}\n\n',), "gone"),
        ((b"data: [1]\n\n",), "an event is not a JSON object"),
        ((b"data: {\n\n",), "does not answer like an Outrider gateway"),
        ((b"data: \xff\n\n",), "does not answer like an Outrider gateway"),
        ((b"data: " + b"x" * (2 * LINE_BYTES + 10),), "a line of the response is longer than 2 MiB"),
    ],
)
async def test_a_stream_that_breaks_is_an_error_in_words(chunks: tuple[bytes, ...], words: str) -> None:
    async with serving(streaming(*chunks)) as url:
        with pytest.raises(CommandError) as raised:
            await events(url)
    assert words in str(raised.value)


async def test_a_silent_stream_is_given_up_with_a_word() -> None:
    async with serving(streaming(b'data: {"a": 1}\n\n', then=silent)) as url:
        with pytest.raises(CommandError, match=r"no data for 0\.2 s; giving up"):
            await events(url, idle_s=0.2)


async def test_an_answer_may_take_longer_than_the_limit_on_silence() -> None:
    """The limit is not on the total: four pauses of 0.3 s exceed 1 s together, but none does alone."""

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for i in range(4):
            await asyncio.sleep(0.3)
            await response.write(b'data: {"i": %d}\n\n' % i)
        await response.write(b"data: [DONE]\n\n")
        return response

    async with serving(slow) as url:
        assert await events(url, idle_s=1) == [{"i": i} for i in range(4)]


@pytest.mark.parametrize(
    ("line", "data"),
    [
        (b"data: a b\n", "a b"),
        (b"data:a\r\n", "a"),
        (b"data:  a\n", " a"),
        (b": data: a\n", ""),
        (b"event: data\n", ""),
        (b"\n", ""),
        (b"data\n", ""),
    ],
)
def test_data_of_a_line(line: bytes, data: str) -> None:
    assert data_of(line) == data
