"""The scheduler's shell: holds the lease, reads messages, calls the core and performs its effects.

Without the lease it is a standby. A term begins with reading all live sessions and pending messages back from the
broker. It ends when the lease is lost or the broker was away; the next term begins in the same way.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from services.scheduler.core import Core, UnexpectedMessage
from services.scheduler.device_gauges import DeviceGauges
from services.scheduler.devices import KnownDevices, expiry_message
from services.scheduler.fleet import LiveProcesses
from services.scheduler.metrics import Metrics
from services.scheduler.options import bands_of, estimates_of, policy_of, window_of
from services.scheduler.performer import Performer, head_of
from services.scheduler.planner import Planner
from services.scheduler.state import Config
from shared.broker.contract import Broker, BrokerAway, Entry, LeaseLost
from shared.compute.compute import Compute
from shared.planning.policy import Policy
from shared.planning.windows.window import Window
from shared.protocol import wire
from shared.protocol.keys import Keys
from shared.protocol.limits import HEARTBEAT_S, HEARTBEAT_TTL_S, LEASE_TTL_S
from shared.protocol.messages import Dismiss, Heartbeat
from shared.protocol.session import SessionHead
from shared.runtime.ids import Ids
from shared.runtime.loop import run_forever
from shared.runtime.presence import Presence
from shared.runtime.settings import SchedulerSettings
from shared.runtime.watch import BrokerWatch, Event

CONSUMER: Final = "scheduler"  # shared by all schedulers, so that a successor reads the unfinished entries
READ_COUNT: Final = 1024
MAX_READ_S: Final = 0.25  # longest blocking read, so that changes of the fleet and the lease take effect soon
FLEET_POLL_S: Final = HEARTBEAT_S / 2
FLEET_FRESH_S: Final = 0.05  # maximum age of the fleet when a new session is placed
SWEEP_S: Final = 5.0
HEADS_AT_ONCE: Final = 64

log = structlog.get_logger()


class Scheduler:
    """One scheduler process. `core` is None while it is a standby."""

    def __init__(
        self,
        settings: SchedulerSettings,
        broker: Broker,
        ids: Ids,
        registry: CollectorRegistry,
        planning: Compute,
        window: Window | None = None,
        policy: Policy | None = None,
    ) -> None:
        """window, policy: in place of the settings'."""
        policy_of(settings)  # to refuse an unknown one now
        self._window, self._bands = window or window_of(settings), bands_of(settings)
        self.name = settings.name or "scheduler"
        self.metrics = Metrics(registry)
        self.watch = BrokerWatch(broker)
        self.watch.on_change(self._on_broker)
        self.core: Core | None = None
        self._settings, self._policy = settings, policy
        self._broker = broker
        self._ids = ids
        self._keys = Keys(settings.shard)
        # Read and handled in this order: a draft that came together with the verdict it follows would be dropped.
        self._streams = (self._keys.submit, self._keys.verdicts, self._keys.draft)
        self._performer = Performer(broker, self._keys, lambda core: core is self.core, lambda: self._holder)
        self._estimates = estimates_of(settings)
        self._devices = KnownDevices(settings.devices_file)
        self._planner = Planner(lambda: self.core, planning, self.metrics, settings.plan_limit_s)
        registry.register(DeviceGauges(lambda: self.core.devices() if self.core else {}))
        self._generation = 0
        self._term = 0
        self._generation_epoch = -1  # watch.generation when ours was taken; -1 = a new one is needed
        self._term_began_at = 0.0
        self._sweep_at = 0.0
        self._fleet: LiveProcesses | None = None  # a fleet that the core has not seen yet
        self._fleet_read_at = 0.0

    def not_ready_reason(self) -> str | None:
        """Why the scheduler is not ready; None when it is. A standby is ready."""
        if not self._generation:
            return "starting"
        return None if self.watch.up else "broker away"

    async def run(self, stop: asyncio.Event) -> None:
        """Schedule or stand by until stop is set, then release the lease. Raises Superseded."""
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(self.watch.run(stop))]
            await self._start_generation(stop)
            presence = Presence(self._broker.presence, self._heartbeat)
            background += [
                group.create_task(presence.run(stop)),
                group.create_task(run_forever(self._poll_fleet, self.watch, stop, "fleet")),
                group.create_task(run_forever(self._keep_lease, self.watch, stop, "lease")),
                group.create_task(run_forever(self._planner.turn, self.watch, stop, "plan")),
            ]
            await run_forever(self._turn, self.watch, stop, "serve")
            await self._release_lease()
            for task in background:
                task.cancel()

    # --- background tasks -------------------------------------------------------------------------------
    async def _start_generation(self, stop: asyncio.Event) -> None:
        """Take a generation as soon as the broker is up."""
        while self._generation_epoch < 0 and not stop.is_set():
            try:
                await self._take_generation()
            except BrokerAway as error:
                log.debug("not begun", why=str(error))
                await asyncio.sleep(self._ids.jitter(0.05, 0.3))

    async def _take_generation(self) -> None:
        data = self.watch.generation
        self._generation = await self._broker.presence.next_generation()
        self._generation_epoch = data

    async def _poll_fleet(self) -> None:
        """Read the live processes for the next turn, then wait."""
        await self._refresh_fleet()
        await asyncio.sleep(FLEET_POLL_S)

    async def _refresh_fleet(self) -> None:
        for address in await self._broker.presence.enlist(self._devices.expiries()):
            log.warning("device dismissed: its credential has expired", device=address)
            await self._broker.streams.send(self._keys.inbox(address), Dismiss(expiry_message(address)))
        read_at = asyncio.get_running_loop().time()
        fleet = await self._read_fleet()
        if read_at >= self._fleet_read_at:  # another read may have begun later and ended sooner
            self._fleet, self._fleet_read_at = fleet, read_at

    async def _keep_lease(self) -> None:
        """Renew the lease three times as often as needed. Losing it ends the term at once."""
        await asyncio.sleep(LEASE_TTL_S / 3)
        term = self._term
        if (
            term
            and not await self._broker.lease.renew(self._holder, term, LEASE_TTL_S)
            and term == self._term
        ):
            self._step_down("the lease was lost")

    def _on_broker(self, event: Event) -> None:
        if event == "reset":
            self._generation_epoch = -1
            self._step_down("the broker lost its data")

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            role="scheduler",
            name=self.name,
            generation=self._generation,
            load=len(self.core.sessions) if self.core else 0,
            stamp_us=round(asyncio.get_running_loop().time() * 1e6),
            detail=f"{self.core.policy.name} k={self.core.policy.k}" if self.core else "standby",
        )

    async def _release_lease(self) -> None:
        """Release the lease, so that a standby takes over at once."""
        term, self._term = self._term, 0
        self.core = None
        if term:
            try:
                await self._broker.lease.release(self._holder, term)
            except BrokerAway as error:
                log.info("the lease lapses by itself", why=str(error))

    # --- one turn, one message --------------------------------------------------------------------------
    async def _turn(self) -> None:
        """Handle all messages, close batches and perform the effects. Without the lease: try to acquire it."""
        try:
            if self.core is None:
                await self._take_over()
            else:
                await self._serve(self.core)
        except BrokerAway:
            self._step_down("the broker was away")
            raise
        except LeaseLost as error:
            self._step_down(str(error) or "the lease was lost")

    async def _serve(self, core: Core) -> None:
        loop = asyncio.get_running_loop()
        wake = core.next_wake()
        block_s = MAX_READ_S if wake is None else min(MAX_READ_S, max(0.0, wake - loop.time()))
        entries = await self._broker.streams.read_group(self._streams, CONSUMER, READ_COUNT, block_s)
        submit = self._keys.submit
        submitted = any(entry.stream == submit for entry in entries)
        if submitted and loop.time() > self._fleet_read_at + FLEET_FRESH_S:
            await self._refresh_fleet()
        if core is not self.core:
            return  # the term is over; the next term reads the entries as pending
        now = loop.time()
        if self._fleet is not None:
            fleet, self._fleet = self._fleet, None
            core.update_fleet(fleet, now, trusted=now > self._term_began_at + HEARTBEAT_TTL_S)
        done = [entry for entry in entries if await self._handle_entry(core, entry, now)]
        await self._performer.do(core, core.tick(now))
        await self._ack(core, done)
        if now >= self._sweep_at:
            await self._sweep(core)

    async def _handle_entry(self, core: Core, entry: Entry, now: float, again: bool = False) -> bool:
        """Handle one entry. Returns False when it was dead-lettered, which also acknowledges it."""
        self.metrics.bytes_in.add(len(entry.data), entry.stream)
        try:
            core.handle(wire.decode(entry.data), entry.id, now, again, len(entry.data))
        except (wire.WireError, UnexpectedMessage) as error:
            log.warning("dead letter", stream=entry.stream, entry=entry.id, why=str(error))
            self.metrics.dead_letters.labels(entry.stream).inc()
            await self._broker.streams.dead_letter(entry, str(error))
            return False
        return True

    async def _ack(self, core: Core, entries: Iterable[Entry]) -> None:
        """Acknowledge all entries but held drafts. A scheduler acknowledges nothing after its term."""
        if core is not self.core:
            return
        ids: dict[str, list[str]] = {}
        draft = self._keys.draft
        for entry in entries:
            if entry.stream != draft or not core.holds(entry.id):
                ids.setdefault(entry.stream, []).append(entry.id)
        acks = [self._broker.streams.ack(stream, some) for stream, some in ids.items()]
        if len(acks) == 1:
            await acks[0]  # nearly always; a task would take longer than the call
        elif acks:
            await asyncio.gather(*acks)

    # --- terms ------------------------------------------------------------------------------------------
    @property
    def _holder(self) -> str:
        return f"{self.name}:{self._generation}"

    def _step_down(self, why: str) -> None:
        """End the term at once. Held drafts stay pending, and the next term reads them again."""
        if self.core is not None:
            log.warning("term over", term=self._term, why=why)
        self.core, self._term = None, 0
        self.metrics.active.set(0)

    async def _take_over(self) -> None:
        """Begin a term if the lease is free: read all live sessions and all pending and new messages."""
        if self._generation_epoch != self.watch.generation:
            await self._take_generation()
        term = await self._broker.lease.acquire(self._holder, LEASE_TTL_S)
        if not term:
            await asyncio.sleep(self._ids.jitter(0.1, 0.2) * LEASE_TTL_S)
            return
        self._term = term
        loop = asyncio.get_running_loop()
        await self._broker.streams.make_groups(self._streams)
        core = await self._new_core(term)
        core.update_fleet(await self._read_fleet(), loop.time(), trusted=False)
        for head in await self._heads(await self._broker.sessions.live()):
            core.adopt(head, loop.time())
        pending = await self._broker.streams.read_pending(
            self._streams, CONSUMER, self._settings.stream_limit
        )
        new = await self._broker.streams.read_group(self._streams, CONSUMER, READ_COUNT, 0.0)
        now = loop.time()
        done = [entry for entry in pending if await self._handle_entry(core, entry, now, again=True)]
        done += [entry for entry in new if await self._handle_entry(core, entry, now)]
        core.resume(now)
        if self._term != term:
            return  # the lease was lost meanwhile
        self.core, self._term_began_at, self._sweep_at = core, now, now + SWEEP_S
        self.metrics.active.set(1)
        self.metrics.recoveries.inc()
        log.info(
            "term begun", term=term, sessions=len(core.sessions), policy=core.policy.name, k=core.policy.k
        )
        await self._performer.do(core, core.tick(now))
        await self._ack(core, done)

    async def _new_core(self, term: int) -> Core:
        """A core with the policy of the last Control, or else of the settings."""
        settings = self._settings
        config = Config(
            name=self.name,
            term=term,
            max_rows=settings.max_rows,
            prefill_tokens=settings.prefill_tokens,
            move_timeout_s=settings.move_timeout_s,
            k=settings.k,
            batches=settings.batches,
            trace=settings.trace,
            bands=self._bands,
            bandwidth=settings.bandwidth,
        )
        policy = self._policy or policy_of(settings)
        core = Core(config, policy, self._estimates, self.metrics, self._window)
        kept = await self._broker.records.get(self._keys.policy)
        if kept.get("source") == "control":
            try:
                core.restore(kept)
            except (KeyError, ValueError) as error:
                log.warning("kept policy not understood", kept=kept, why=str(error))
        else:
            await self._performer.perform(core, core.policy_record("settings"))
        return core

    async def _sweep(self, core: Core) -> None:
        """Handle entries that an ending term left pending, and live sessions that are unknown here."""
        pending = await self._broker.streams.read_pending(
            self._streams, CONSUMER, self._settings.stream_limit
        )
        live = await self._broker.sessions.live()
        heads = await self._heads(live - core.sessions.keys())
        if core is not self.core:
            return
        now = asyncio.get_running_loop().time()
        self._sweep_at = now + SWEEP_S
        left = [e for e in pending if e.stream != self._keys.draft or not core.holds(e.id)]
        done = [entry for entry in left if await self._handle_entry(core, entry, now, again=True)]
        for head in heads:
            core.on_head(head, now)
        await self._performer.do(core, core.tick(now))
        await self._ack(core, done)

    async def _heads(self, sessions: Iterable[str]) -> list[SessionHead]:
        names = sorted(sessions)
        heads: list[SessionHead | None] = []
        for first in range(0, len(names), HEADS_AT_ONCE):
            some = names[first : first + HEADS_AT_ONCE]
            heads += await asyncio.gather(*(head_of(self._broker.sessions, session) for session in some))
        return [head for head in heads if head is not None]

    async def _read_fleet(self) -> LiveProcesses:
        alive = self._broker.presence.alive
        return LiveProcesses.of(
            *await asyncio.gather(alive("draft_worker"), alive("verifier"), alive("gateway"))
        )
