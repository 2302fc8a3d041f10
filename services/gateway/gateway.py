"""The gateway's shell: builds its parts, starts them and drains them in order."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from services.gateway.admin import Admin
from services.gateway.admission import Admission
from services.gateway.app import Api, malformed
from services.gateway.cors import read_origins
from services.gateway.deployment import DeploymentView
from services.gateway.in_flight import InFlight
from services.gateway.intake import Intake
from services.gateway.keys import AdminKeys, ApiKeys, check_bind, read_keys
from services.gateway.metrics import Metrics
from services.gateway.respond import StreamTimeouts
from services.gateway.sessions import OVERDUE_S, GatewaySessions
from services.gateway.tokenizer import TargetTokenizer, load_tokenizer, modelled_tokenizer
from services.gateway.wall_clock import wall_clock
from shared.broker.connections import MAX_CALLS
from shared.broker.contract import Broker
from shared.compute.compute import Compute
from shared.protocol.keys import Keys
from shared.runtime.connection import ConnectionBounds
from shared.runtime.health import HEALTH_FILES, HealthServer
from shared.runtime.ids import Ids
from shared.runtime.listener import REFUSALS, Listener
from shared.runtime.loop import run_forever
from shared.runtime.open_files import open_files
from shared.runtime.settings import GatewaySettings, SettingsError
from shared.runtime.watch import BrokerWatch, Event

# Files that are not client connections: the broker's, health pages, listeners, refusals, and the process's own.
OTHER_FILES: Final = MAX_CALLS + HEALTH_FILES + REFUSALS + 24
MIN_CONNECTIONS: Final = 16
LAST_WRITE_S: Final = 2.0  # time for the error events of streams that did not end in time
REFRESH_S: Final = 1.0  # interval of reading the deployment record
MISSING_S: Final = 0.25  # the interval while there is no record

log = structlog.get_logger()


def connection_room(requested: int, files: int) -> int:
    """Maximum client connections, given the limit of open files. Raises SettingsError when that is too low."""
    room = files - OTHER_FILES
    if room < MIN_CONNECTIONS:
        raise SettingsError(
            f"only {files} files may be open (ulimit -n); the gateway needs {OTHER_FILES + MIN_CONNECTIONS} at least"
        )
    return min(requested, room)


def tokenizer_of(settings: GatewaySettings) -> TargetTokenizer:
    """The target's tokenizer; without a model folder, that of the modelled target."""
    special_in_text = settings.special_tokens_in_text
    if settings.model_dir:
        return load_tokenizer(Path(settings.model_dir), special_in_text)
    return modelled_tokenizer(special_in_text=special_in_text)


class Gateway:
    """The gateway service: HTTP connections, tokenizer and keys, without a model or a schedule.

    Raises SettingsError when it is reachable from elsewhere without keys.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        broker: Broker,
        compute: Compute,
        ids: Ids,
        registry: CollectorRegistry,
        tokenizer: TargetTokenizer,
        clock: Callable[[], datetime] = wall_clock,
    ) -> None:
        check_bind(settings)
        self._connections = connection_room(settings.max_connections, open_files())
        api_keys = read_keys(settings.api_keys_file, "OUTRIDER_API_KEYS_FILE")
        admin_keys = AdminKeys(
            read_keys(settings.admin_keys_file, "OUTRIDER_ADMIN_KEYS_FILE"), settings.keyless
        )
        keys = Keys(settings.shard)
        self.port = settings.port  # replaced by the bound port once it listens
        self._settings = settings
        self._registry = registry
        self._in_flight = InFlight()
        self._watch = BrokerWatch(broker)
        self._watch.on_change(self._on_watch)
        self.sessions = GatewaySessions(settings, broker, self._watch, ids)
        self._deployment = DeploymentView(broker.records, keys, tokenizer.vocabulary.hash)
        self.api = Api(
            name=settings.served_name or Path(settings.model_dir).name or "modelled",
            admission=Admission(
                tokenizer,
                Intake.of(settings, compute),
                ids,
                settings.max_context,
            ),
            sessions=self.sessions,
            deployment=self._deployment,
            api_keys=ApiKeys(api_keys, settings.key_concurrency, settings.key_rate),
            admin=Admin(broker, keys, admin_keys, self.sessions, self._deployment),
            metrics=Metrics(registry, self.sessions),
            wall_clock=clock,
            max_body_bytes=settings.max_body_bytes,
            in_flight=self._in_flight,
            timeouts=StreamTimeouts(
                settings.keepalive_s, settings.request_timeout_s + OVERDUE_S + settings.write_timeout_s
            ),
            cors=read_origins(settings.cors_origins),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until stop is set, then drain: take no new connections and let requests end, within a bound."""
        settings, ended = self._settings, asyncio.Event()
        health = HealthServer(
            settings.health_host,
            settings.health_port,
            self._registry,
            self.api.draining_reason,
            settings.stack,
        )
        # aiohttp cancels the handler of a disconnected client, and that ends the client's sessions.
        listener = Listener(
            self.api.application(),
            ConnectionBounds(
                self._connections,
                settings.header_timeout_s,
                settings.idle_timeout_s,
                settings.write_timeout_s,
            ),
            refusal=malformed,
            auto_decompress=False,  # `read_body` unpacks, within bounds
            handler_cancellation=True,
            shutdown_timeout=LAST_WRITE_S,
        )
        self.api.metrics.watch(listener)
        try:
            await self._listen(listener)
            async with health, asyncio.TaskGroup() as group:
                group.create_task(self._watch.run(ended))
                group.create_task(self.sessions.run(ended))
                group.create_task(run_forever(self._refresh, self._watch, ended, "deployment"))
                await stop.wait()
                await self._drain(listener)
                ended.set()
        finally:
            await listener.close()

    async def _listen(self, listener: Listener) -> None:
        host, port = self._settings.host, self._settings.port
        try:
            await listener.start(host, port)
        except OSError as error:
            raise SettingsError(f"OUTRIDER_HOST={host} OUTRIDER_PORT={port}: {error.strerror}") from error
        self.port = listener.port
        log.info("listening", host=host, port=self.port, model=self.api.name, connections=self._connections)

    async def _drain(self, listener: Listener) -> None:
        """Report not ready first, so that load balancers move on; then stop listening and let requests finish."""
        self._in_flight.draining = True
        log.info("draining", sessions=len(self.sessions), linger_s=self._settings.linger_s)
        await asyncio.sleep(self._settings.linger_s)
        await listener.stop()
        await self._in_flight.wait_idle(self._settings.drain_s)
        self.sessions.shut_down()
        await listener.close()

    def _on_watch(self, event: Event) -> None:
        if event == "reset":
            self._deployment.clear()

    async def _refresh(self) -> None:
        await self._deployment.refresh()
        await asyncio.sleep(REFRESH_S if self._deployment.current else MISSING_S)
