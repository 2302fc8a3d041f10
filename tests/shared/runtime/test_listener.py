"""Clients that send nothing or half a request, or never read, do not keep others from being served."""

import asyncio
import errno
import functools
import inspect
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from aiohttp import web

from shared.runtime.connection import ConnectionBounds
from shared.runtime.listener import REFUSALS, Listener

BOUNDS = ConnectionBounds(connections=4, header_s=30.0, idle_s=30.0, write_s=30.0)
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Services run on uvloop, whose transports pause, close and fail in ways of their own."""

    @functools.wraps(test)
    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(**arguments))

    own = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(test)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), own]
    )
    factories = [asyncio.new_event_loop, uvloop.new_event_loop]
    return pytest.mark.parametrize("loop_factory", factories, ids=["asyncio", "uvloop"])(run)


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


@asynccontextmanager
async def listening(handler: Handler = hello, bounds: ConnectionBounds = BOUNDS) -> AsyncIterator[Listener]:
    app = web.Application()
    app.router.add_route("*", "/", handler)
    listener = Listener(app, bounds, handler_cancellation=True, shutdown_timeout=0.1)
    await listener.start("127.0.0.1", 0)
    try:
        yield listener
        await until(lambda: len(listener) == 0)
        assert not listener._waiting
        assert not listener._connections
    finally:
        await listener.close()


class Client:
    """A client's socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def status(self) -> int:
        """Status of the next response, whose body is read."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
            await self.reader.readexactly(int(length.split()[1]))
        return int(head.split()[1])

    async def closed(self) -> bytes:
        """All bytes until the server closes the connection."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def connected(listener: Listener, *sent: bytes) -> AsyncIterator[list[Client]]:
    """One client for each of what they have sent, in this order."""
    clients = []
    try:
        for data in sent:
            clients.append(Client(*await asyncio.open_connection("127.0.0.1", listener.port)))
            clients[-1].writer.write(data)
            await asyncio.sleep(0.002)
        yield clients
    finally:
        for client in clients:
            client.writer.transport.abort()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        await asyncio.sleep(0.01)
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", POST])
@both_loops
async def test_clients_that_wait_give_way_to_one_that_asks(sent: bytes) -> None:
    async def read(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(text="hello")

    async with listening(read) as listener, connected(listener, *[sent] * 4) as waiting:
        await until(lambda: len(listener) == 4)
        async with connected(listener, REQUEST) as (client,):
            assert await client.status() == 200
            assert len(listener) == 4
            assert await waiting[0].closed() == b""
            assert listener.counts["evicted"] == 1


@both_loops
async def test_a_kept_connection_gives_way_too_the_longest_unused_first() -> None:
    async with listening() as listener, connected(listener, *[REQUEST] * 4) as kept:
        for client in kept:
            assert await client.status() == 200
        kept[0].writer.write(REQUEST)
        assert await kept[0].status() == 200
        async with connected(listener, REQUEST) as (client,):
            assert await client.status() == 200
            assert await kept[1].closed() == b""
            kept[0].writer.write(REQUEST)
            assert await kept[0].status() == 200


@both_loops
async def test_when_all_are_served_further_ones_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.runtime.connection.REFUSED_S", 0.3)
    go = asyncio.Event()

    async def wait(_: web.Request) -> web.Response:
        await go.wait()
        return web.Response(text="hello")

    async with listening(wait) as listener, connected(listener, *[REQUEST] * 4) as served:
        await until(lambda: not listener._waiting)
        async with connected(listener, *[REQUEST] * (REFUSALS + 3)) as more:
            assert [await client.status() for client in more] == [503] * len(more)
            assert listener.counts["refused"] == len(more)
            assert len(listener) == 4
        go.set()
        assert [await client.status() for client in served] == [200] * 4
        assert listener.counts["evicted"] == 0


@pytest.mark.parametrize(
    ("sent", "answer"), [(b"", b""), (b"GET / HTTP/1.1\r\nHo", b"HTTP/1.1 408 Request Timeout")]
)
@both_loops
async def test_headers_have_to_come_in_time(sent: bytes, answer: bytes) -> None:
    async with listening(bounds=replace(BOUNDS, header_s=0.1)) as listener:
        async with connected(listener, sent) as (client,):
            assert (await client.closed()).split(b"\r\n")[0] == answer
        assert listener.counts["header_timeout"] == 1
        await until(lambda: len(listener) == 0)


@both_loops
async def test_a_byte_now_and_then_is_no_progress() -> None:
    bounds = replace(BOUNDS, header_s=0.2)
    async with listening(bounds=bounds) as listener, connected(listener, b"GET / HTTP/1.1\r\n") as (client,):
        answer = asyncio.create_task(client.closed())
        while not listener.counts["header_timeout"]:  # a byte sent after the close would reset the connection
            client.writer.write(b"X")
            await asyncio.wait([answer], timeout=0.02)
        assert b"408" in await answer
        assert listener.counts["header_timeout"] == 1


@both_loops
async def test_a_handler_may_take_longer_than_headers() -> None:
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(0.3)
        return web.Response(text="hello")

    bounds = replace(BOUNDS, header_s=0.1, write_s=0.1)
    async with listening(slow, bounds) as listener, connected(listener, REQUEST) as (client,):
        assert await client.status() == 200


@both_loops
async def test_a_kept_connection_has_the_idle_time_then_the_headers_time() -> None:
    async with (
        listening(bounds=replace(BOUNDS, header_s=0.1)) as listener,
        connected(listener, REQUEST, REQUEST) as (quiet, half),
    ):
        assert (await quiet.status(), await half.status()) == (200, 200)
        half.writer.write(b"GET / HT")
        assert b"408" in await half.closed()
        quiet.writer.write(REQUEST)
        assert await quiet.status() == 200
    async with (
        listening(bounds=replace(BOUNDS, idle_s=0.1)) as listener,
        connected(listener, REQUEST) as (client,),
    ):
        assert await client.status() == 200
        assert await client.closed() == b""


@pytest.mark.parametrize("whole", [True, False])
@both_loops
async def test_a_client_that_never_reads_is_disconnected_and_its_handler_ends(whole: bool) -> None:
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        if whole:
            return web.Response(body=b"x" * (1 << 25))
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 10_000)
        finally:
            ended.set()

    async with listening(endless, replace(BOUNDS, write_s=0.1)) as listener:
        with socket.create_connection(("127.0.0.1", listener.port)) as sock:
            sock.sendall(REQUEST)
            await until(lambda: len(listener) == 0 and listener.counts["write_timeout"] == 1)
            if not whole:
                async with asyncio.timeout(5):
                    await ended.wait()


@both_loops
async def test_a_little_that_is_never_read_does_not_hold_a_connection_either() -> None:
    """The rest is less than the transport's buffer: the handler has ended, and closing would never finish."""

    async def some(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * 30_000)

    bounds = replace(BOUNDS, write_s=0.1)
    async with listening(some, bounds) as listener, connected(listener, b"") as (client,):
        await until(lambda: len(listener) == 1)
        (connection,) = listener._connections.values()
        assert connection.transport is not None
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket is read, too
        while not connection.transport.get_write_buffer_size():
            client.writer.write(REQUEST)
            await asyncio.sleep(0.01)
        await until(lambda: len(listener) == 0)
        assert listener.counts["write_timeout"] == 1


async def test_without_files_a_client_waits_and_is_served_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.runtime.listener.PAUSE_S", 0.01)
    async with listening() as listener:
        loop = asyncio.get_running_loop()
        accept, failures = loop.sock_accept, [errno.EMFILE, errno.ENFILE, errno.ENOBUFS]

        async def failing(sock: socket.socket) -> Any:
            if failures:
                raise OSError(failures.pop(), "no more")
            return await accept(sock)

        monkeypatch.setattr(loop, "sock_accept", failing)
        async with connected(listener, REQUEST, REQUEST) as clients:  # the first was being waited for already
            assert [await client.status() for client in clients] == [200, 200]
        assert not failures


@both_loops
async def test_nothing_is_kept_of_a_client_that_goes_in_the_middle() -> None:
    """The handler ends after its connection."""
    begun = asyncio.Event()

    async def endless(_: web.Request) -> web.Response:
        begun.set()
        await asyncio.sleep(3600)
        return web.Response()

    async with listening(endless, replace(BOUNDS, connections=1)) as listener:
        async with connected(listener, REQUEST):
            async with asyncio.timeout(5):
                await begun.wait()
        await until(lambda: len(listener) == 0)
        await asyncio.sleep(0.05)
        assert not listener._waiting
        assert not listener._connections
        begun.clear()
        async with connected(listener, REQUEST), asyncio.timeout(5):
            await begun.wait()


@both_loops
async def test_a_crowd_is_served() -> None:
    async with (
        listening(bounds=replace(BOUNDS, connections=100)) as listener,
        connected(listener, *[REQUEST] * 100) as clients,
    ):
        assert [await client.status() for client in clients] == [200] * 100
        assert listener.counts.total() == 0


async def test_a_port_that_is_taken_is_an_error() -> None:
    async with listening() as listener:
        other = Listener(web.Application(), BOUNDS)
        with pytest.raises(OSError, match="in use"):
            await other.start("127.0.0.1", listener.port)
        await other.close()


async def test_localhost_is_all_its_addresses_on_one_port() -> None:
    listener = Listener(web.Application(), BOUNDS)
    await listener.start("localhost", 0)
    async with connected(listener, REQUEST) as (client,):
        assert await client.status() == 404
    await listener.close()
