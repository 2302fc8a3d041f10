"""/healthz, /readyz and /metrics of a service, on a separate port."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from shared.runtime.connection import ConnectionBounds
from shared.runtime.listener import REFUSALS, Listener
from shared.runtime.settings import SettingsError

TICK_S: Final = 0.5
STUCK_S: Final = 10.0
STACK_HEADER: Final = "Outrider-Stack"
# Few connections, so that files for them can be reserved beside any number of clients (HEALTH_FILES).
BOUNDS: Final = ConnectionBounds(connections=16, header_s=5.0, idle_s=60.0, write_s=10.0)
HEALTH_FILES: Final = BOUNDS.connections + REFUSALS + 4


class HealthServer:
    """Alive: the event loop ticks. Ready: `ready()` returns None; otherwise its reason is the response.

    stack: id of the stack that this process belongs to, returned in STACK_HEADER; "" = none. Entering raises
    SettingsError when the port cannot be bound.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        ready: Callable[[], str | None],
        stack: str = "",
    ) -> None:
        self._host, self._port, self._registry, self._ready = host, port, registry, ready
        self._stack = stack
        self._listener: Listener | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._last_tick = 0.0

    @property
    def port(self) -> int:
        """The bound port, which differs from the requested one if that is 0."""
        return (self._listener.port if self._listener is not None else 0) or self._port

    async def __aenter__(self) -> "HealthServer":
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        if self._stack:
            app.on_response_prepare.append(self._sign)
        self._listener = Listener(app, BOUNDS)
        try:
            await self._listener.start(self._host, self._port)
        except OSError as error:
            await self._listener.close()
            place = f"OUTRIDER_HEALTH_HOST={self._host} OUTRIDER_HEALTH_PORT={self._port}"
            raise SettingsError(f"{place}: {error.strerror}") from error
        except BaseException:  # cancelled while starting: its sockets must be closed; raised again
            await self._listener.close()
            raise
        self._last_tick = asyncio.get_running_loop().time()
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        if self._listener is not None:
            await self._listener.close()

    async def _tick(self) -> None:
        while True:
            self._last_tick = asyncio.get_running_loop().time()
            await asyncio.sleep(TICK_S)

    async def _sign(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers[STACK_HEADER] = self._stack

    async def _healthz(self, _: web.Request) -> web.Response:
        age_s = asyncio.get_running_loop().time() - self._last_tick
        return web.Response(text=f"last tick {age_s:.2f} s ago\n", status=200 if age_s < STUCK_S else 503)

    async def _readyz(self, _: web.Request) -> web.Response:
        reason = self._ready()
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )
