"""The device's shell: joins a deployment, sends heartbeats, and runs one incarnation after another."""

import asyncio
from collections.abc import Callable, Mapping
from math import inf
from typing import Final

import structlog

from services.draft_worker.compute_loop import ComputeLoop
from services.draft_worker.growth_loop import GrowthLoop
from services.draft_worker.handshake import explain_by_hash, refusal_reason
from services.draft_worker.incarnation import Incarnation
from services.draft_worker.link import Link
from services.draft_worker.metrics import Metrics
from services.draft_worker.sessions import DraftSessions
from services.draft_worker.timeline import Timeline
from shared.broker.contract import BrokerAway
from shared.broker.device_broker import ROLE, DeviceBroker
from shared.compute.compute import Compute
from shared.compute.drafter import Drafter
from shared.compute.tree_drafter import TreeDrafter
from shared.protocol.keys import Keys
from shared.protocol.limits import HEARTBEAT_S
from shared.protocol.messages import Heartbeat
from shared.runtime.ids import Ids
from shared.runtime.loop import run_forever
from shared.runtime.pause import pause
from shared.runtime.presence import Presence
from shared.runtime.service import Refused
from shared.runtime.settings import DraftWorkerSettings
from shared.runtime.watch import BrokerWatch, Event

log = structlog.get_logger()

POLL_S: Final = 0.5  # interval of reading the deployment record while waiting for it
FAR_PAUSE_S: Final = 5.0  # longest pause of a joined device between tries to reach a lost broker


class DraftWorker:
    """One device. All parts are injected, so that it also runs on MemoryBroker and a virtual clock.

    explain(deployment): describes where the vocabularies differ.
    """

    def __init__(
        self,
        settings: DraftWorkerSettings,
        broker: DeviceBroker,
        drafter: Drafter,
        compute: Compute,
        ids: Ids,
        metrics: Metrics,
        explain: Callable[[Mapping[str, str]], str] | None = None,
        trees: Callable[[], TreeDrafter] | None = None,
    ) -> None:
        """trees: loads a drafter of trees, when one is first asked for; None = this device grows none."""
        self._settings, self._broker, self._drafter, self._ids = settings, broker, drafter, ids
        self._explain = explain or explain_by_hash(drafter.vocabulary)
        self._name = settings.name or ROLE
        self._keys = Keys(settings.shard)
        self.link = link_of(settings, ids)
        self._rtt_s = 0.0
        self._metrics = metrics
        self._timeline = Timeline(self._name, settings.trace)
        self._computing = ComputeLoop(drafter, compute, self._metrics)
        self._growing = GrowthLoop(trees, compute, self._metrics)
        far = settings.joined  # a remote device may lose the broker for long and then probes it less often
        self._watch = BrokerWatch(
            broker, pause_s=HEARTBEAT_S, max_pause_s=FAR_PAUSE_S if far else HEARTBEAT_S
        )
        self._watch.on_change(self._on_broker)
        self._over = asyncio.Event()  # ends an incarnation: told to stop, or the broker lost its data
        self._serving: Incarnation | None = None
        self._generation = 0
        self._not_ready_reason: str | None = "starting"

    def not_ready_reason(self) -> str | None:
        """Why the device is not ready; None when it is."""
        return self._not_ready_reason or (None if self._watch.up else "the broker is away")

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until stop is set. Raises Refused when the deployment does not take this device."""
        with self.link.in_cell():
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watch.run(stop))
                stopping = tasks.create_task(self._end_on(stop))
                await self._computing.calibrate()
                while not stop.is_set():
                    self._over.clear()
                    if await self._join(stop):
                        await self._serve(stop)
                await asyncio.gather(watching, stopping)
        await self._growing.close()

    async def _end_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._over.set()

    def _on_broker(self, event: Event) -> None:
        if event == "reset":
            self._over.set()
        elif event == "lost" and self._serving is not None:
            self._serving.drop_all()

    # --- joining ------------------------------------------------------------------------------------

    async def _join(self, stop: asyncio.Event) -> bool:
        """Wait for a deployment that accepts this device, and take a generation. False when stopped before."""
        logged = ""
        while not stop.is_set():
            try:
                deployment = await self._broker.records.get(self._keys.deployment)
                if deployment:
                    self._check(deployment)
                    self._generation = await self._broker.presence.next_generation()
                    log.info("joined", name=self._name, generation=self._generation)
                    return True
                self._not_ready_reason = "waiting for the core: no verifier has registered its deployment yet"
            except BrokerAway as error:
                self._not_ready_reason = f"waiting for the broker: {error}"
            if self._not_ready_reason != logged:
                logged = self._not_ready_reason
                log.info(logged)
            await pause(stop, POLL_S)
        return False

    def _check(self, deployment: Mapping[str, str]) -> None:
        self._not_ready_reason = refusal_reason(deployment, self._drafter.vocabulary, self._explain)
        if self._not_ready_reason:
            log.error("refused", why=self._not_ready_reason)
            raise Refused(self._not_ready_reason)

    # --- serving ------------------------------------------------------------------------------------

    async def _serve(self, stop: asyncio.Event) -> None:
        """One incarnation."""
        address = f"{self._name}:{self._generation}"
        sessions = DraftSessions(address, self._drafter.vocab, self._drafter.capacity, self._growing.able)
        self._serving = Incarnation(
            address,
            sessions,
            self._computing,
            self._growing,
            self._broker.streams,
            self._keys,
            self.link,
            self._ids,
            self._metrics,
            self._timeline,
        )
        presence = Presence(self._broker.presence, self._heartbeat)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(presence.run(self._over))
            tasks.create_task(run_forever(self._maintain, self._watch, self._over, "upkeep"))
            await self._serving.run(self._watch, self._over)
        await self._serving.stop(notify=stop.is_set() and self._watch.up)
        if stop.is_set():
            self._not_ready_reason = "stopping"
            await presence.beat()  # its capacity is 0, so that no new sessions are placed here

    async def _maintain(self) -> None:
        """Once per heartbeat: measure the link, check the deployment and query silent sessions."""
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        deployment = await self._broker.records.get(self._keys.deployment)
        self._rtt_s = loop.time() - sent_at + 2 * (self.link.delay_s + self.link.jitter_s)
        if deployment:
            self._check(deployment)
        if self._serving is not None:
            self._serving.query_silent()
        if spans := self._timeline.take():
            await self._broker.streams.trace(spans)
        await pause(self._over, HEARTBEAT_S)

    def _heartbeat(self) -> Heartbeat:
        load = len(self._serving.sessions) if self._serving else 0
        return Heartbeat(
            role=ROLE,
            name=self._name,
            generation=self._generation,
            vocabulary=self._drafter.vocabulary,
            capacity=0 if self._not_ready_reason else self._drafter.capacity,
            load=load,
            draft_us_per_token=self._computing.us_per_token,
            rtt_us=round(self._rtt_s * 1e6),
            stamp_us=round(asyncio.get_running_loop().time() * 1e6),
            busy_us=self._computing.busy_us + self._growing.busy_us,
            trees=self._growing.able,
            cell=self._settings.cell,
            eta=self._settings.cell_eta if self._settings.cell else 0.0,
            payload_bits=self.link.payload_bits_per_token,
            detail=self._settings.draft_model or self._settings.drafter,
        )


def link_of(settings: DraftWorkerSettings, ids: Ids) -> Link:
    """The emulated link that the settings ask for."""
    bytes_per_s = settings.link_kbit_s * 125 or inf
    return Link(ids, settings.link_ms / 1e3, settings.link_jitter_ms / 1e3, bytes_per_s, settings.link_loss)
