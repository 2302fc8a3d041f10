"""An HTTP listener with limits that keep clients from exhausting it (ConnectionBounds)."""

import asyncio
import errno
import socket
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import islice
from typing import Any, Final, cast

import structlog
from aiohttp import web

from shared.runtime.connection import REFUSED_S, Connection, ConnectionBounds, Refusal
from shared.runtime.http_runner import HttpRunner, plain_refusal
from shared.runtime.http_runner import Refusal as RefusedRequest

BACKLOG: Final = 256
BURST: Final = 16  # clients accepted in a row before other tasks run
REFUSALS: Final = 8  # clients refused at once; further ones wait in the backlog
MAX_EVICTION_TRIES: Final = 8  # connections that are tried before a newcomer is refused
PAUSE_S: Final = 0.2  # pause when the system has no file or memory for another connection

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()


class Listener:
    """Serves an application. When all places are taken, the client that has waited longest to be served, because it
    has yet to send a request, gives way to the newcomer; if none waits, the newcomer is answered 503.

    counts: evicted, refused, header_timeout, write_timeout. Needs connections + REFUSALS + 4 open files.
    """

    def __init__(
        self,
        app: web.Application,
        bounds: ConnectionBounds,
        refusal: RefusedRequest = plain_refusal,
        **handler_options: Any,
    ) -> None:
        """refusal: the response to invalid HTTP. handler_options: arguments of aiohttp's AppRunner."""
        self.counts: Counter[str] = Counter()
        self._bounds = bounds
        app.middlewares.insert(0, self._around)
        self._runner = HttpRunner(app, refusal=refusal, keepalive_timeout=bounds.idle_s, **handler_options)
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._connections: dict[asyncio.Transport, Connection] = {}
        self._waiting: OrderedDict[Connection, None] = (
            OrderedDict()
        )  # not "busy"; the longest at the beginning
        self._open = 0
        self._refusals = 0
        self._freed = asyncio.Event()  # set whenever a place is given back

    def __len__(self) -> int:
        return self._open

    @property
    def port(self) -> int:
        """The bound port; 0 = not bound."""
        return int(self._sockets[0].getsockname()[1]) if self._sockets else 0

    async def start(self, host: str, port: int) -> None:
        """Bind and serve. Raises OSError."""
        await self._runner.setup()
        self._sockets = await _bind(host, port)
        self._accepting = [asyncio.create_task(self._accept_on(sock)) for sock in self._sockets]

    async def stop(self) -> None:
        """Accept no new connections."""
        accepting, self._accepting = self._accepting, []
        for task in accepting:
            task.cancel()
        await asyncio.gather(*accepting, return_exceptions=True)
        for sock in self._sockets:
            sock.close()
        self._sockets = []

    async def close(self) -> None:
        """Stop, and close all connections. Running handlers get aiohttp's `shutdown_timeout`."""
        await self.stop()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await self._runner.cleanup()

    # --- accepting ----------------------------------------------------------------------------------
    async def _accept_on(self, sock: socket.socket) -> None:
        loop, taken = asyncio.get_running_loop(), 0
        while True:
            try:
                client, _ = await loop.sock_accept(sock)
            except OSError as error:  # no more files, most likely; the client waits in the backlog
                log.warning("no connection accepted", why=error.strerror, open=self._open)
                await asyncio.sleep(PAUSE_S)
                continue
            try:
                await self._place(client)
            except (
                BaseException
            ):  # cancelled while the client waits for a place: nobody else closes it; raised again
                client.close()
                raise
            taken += 1
            if taken % BURST == 0:
                await asyncio.sleep(0)

    async def _place(self, client: socket.socket) -> None:
        """Admit or refuse a client, without using more files than there are places."""
        while self._open >= self._bounds.connections:
            if self._evict():
                await self._place_freed()
            elif self._refusals < REFUSALS:
                self.counts["refused"] += 1
                self._refusals += 1
                self._begin(client, lambda: Refusal(self._refusal_lost), self._refusal_lost)
                return
            else:
                await self._place_freed()
        self._open += 1
        self._begin(client, self._connection, self._place_lost)

    async def _place_freed(self) -> None:
        """A refusal ends within REFUSED_S, an evicted connection at once."""
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(REFUSED_S):
                await self._freed.wait()

    def _begin(
        self, client: socket.socket, make: Callable[[], asyncio.Protocol], failed: Callable[[], None]
    ) -> None:
        task = asyncio.create_task(self._connect(client, make, failed))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(
        self, client: socket.socket, make: Callable[[], asyncio.Protocol], failed: Callable[[], None]
    ) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(make, client)
        except Exception as error:
            log.debug("connection not taken", why=str(error))
            client.close()
            failed()

    def _connection(self) -> Connection:
        make = cast(web.Server, self._runner.server)  # there since start
        return Connection(make(), self._bounds, self._changed, self._lost, self._count)

    def _evict(self) -> bool:
        for connection in list(islice(self._waiting, MAX_EVICTION_TRIES)):
            if connection.expendable:
                self.counts["evicted"] += 1
                del self._waiting[connection]
                connection.drop()
                return True
            self._waiting.move_to_end(connection)
        return False

    # --- connections --------------------------------------------------------------------------------
    def _changed(self, connection: Connection) -> None:
        if connection.transport is not None:
            self._connections[connection.transport] = connection
        if connection.phase == "busy":
            self._waiting.pop(connection, None)
        elif connection not in self._waiting:
            self._waiting[connection] = None

    def _lost(self, connection: Connection) -> None:
        self._waiting.pop(connection, None)
        if connection.transport is not None:
            self._connections.pop(connection.transport, None)
        self._place_lost()

    def _place_lost(self) -> None:
        self._open -= 1
        self._freed.set()

    def _refusal_lost(self) -> None:
        self._refusals -= 1
        self._freed.set()

    def _count(self, bound: str) -> None:
        self.counts[bound] += 1

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Notify the connection that a request is being handled."""
        transport = request.transport
        connection = self._connections.get(transport) if transport is not None else None
        if connection is None:  # the client has disconnected
            return await handler(request)
        whole = request.content.is_eof()
        connection.began(whole)
        if not whole:
            request.content.on_eof(connection.received)
        try:
            return await handler(request)
        finally:
            connection.ended()


async def _bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets on all addresses of a host ("" = all of this machine's), on one port. Raises OSError."""
    infos = await asyncio.get_running_loop().getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((info[0], info[4]) for info in infos):
            bound = sockets[0].getsockname()[1] if sockets else port
            sockets += _listening(family, (address[0], bound, *address[2:]), optional=bool(sockets))
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listening(family: int, address: tuple[Any, ...], optional: bool) -> list[socket.socket]:
    """A listening socket; empty if the address family is optional and unavailable here."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if optional and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return []
        raise
    return [sock]
