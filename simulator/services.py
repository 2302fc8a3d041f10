"""The services of a simulated stack: each factory makes the service of one life from its process's surroundings.

The services are the deployed ones. Target and drafter are modelled; they are made anew in every life, as a process
that starts has an empty cache.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry

from services.draft_worker.metrics import Metrics
from services.draft_worker.station import Station
from services.draft_worker.worker import DraftWorker
from services.gateway.sessions import GatewaySessions
from services.scheduler.scheduler import Scheduler
from services.verifier.verifier import Verifier
from shared.broker.contract import Broker
from shared.compute.compute import Compute, InlineCompute
from shared.compute.core_drafter import CoreDrafter, LookupDrafter
from shared.compute.drafter import Drafter
from shared.compute.target import TargetModel
from shared.compute.tree_drafter import TreeDrafter
from shared.planning.policy import Policy
from shared.planning.windows.window import Window
from shared.runtime.ids import Ids
from shared.runtime.settings import (
    DraftWorkerSettings,
    GatewaySettings,
    SchedulerSettings,
    VerifierSettings,
)
from shared.runtime.watch import BrokerWatch
from simulator.device_delays import DeviceDelays


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a process is given in each life."""

    broker: Broker
    compute: Compute
    ids: Ids
    registry: CollectorRegistry


class Service(Protocol):
    """A service that runs until stop is set."""

    async def run(self, stop: asyncio.Event) -> None: ...


Factory = Callable[[Surroundings], Service]


class Gateway:
    """The gateway without HTTP: its sessions and the watch over its broker."""

    def __init__(self, settings: GatewaySettings, broker: Broker, ids: Ids) -> None:
        self._watch = BrokerWatch(broker)
        self.sessions = GatewaySessions(settings, broker, self._watch, ids)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until stop is set."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch.run(stop))
            group.create_task(self.sessions.run(stop))


def gateway(settings: GatewaySettings) -> Factory:
    """A gateway's factory."""
    return lambda given: Gateway(settings, given.broker, given.ids)


def scheduler(
    settings: SchedulerSettings,
    window: Callable[[], Window] | None = None,
    policy: Callable[[], Policy] | None = None,
) -> Factory:
    """A scheduler's factory. Its planner takes no virtual time. window, policy: those that no setting can name."""
    return lambda given: Scheduler(
        settings,
        given.broker,
        given.ids,
        given.registry,
        InlineCompute(),
        window() if window else None,
        policy() if policy else None,
    )


def verifier(
    settings: VerifierSettings,
    target: Callable[[], TargetModel],
    drafter: Callable[[], CoreDrafter] = LookupDrafter,
) -> Factory:
    """A verifier's factory. drafter: the core's own."""
    return lambda given: Verifier(
        settings, given.broker, target(), given.compute, given.ids, given.registry, drafter=drafter()
    )


def draft_worker(
    settings: DraftWorkerSettings,
    drafter: Callable[[], Drafter],
    metrics: Metrics | None = None,
    delays: DeviceDelays | None = None,
    trees: Callable[[], TreeDrafter] | None = None,
    station: Station | None = None,
    payload_bits_per_token: int = 0,
) -> Factory:
    """A device's factory. metrics: shared by many devices; None = its own. delays: of its link, in place of the
    settings'. trees: its drafter of trees, if it has one. station: its place in a cell; payload_bits_per_token: see
    Link."""

    def start(given: Surroundings) -> DraftWorker:
        own = metrics or Metrics(given.registry)
        worker = DraftWorker(settings, given.broker, drafter(), given.compute, given.ids, own, trees=trees)
        worker.link.station, worker.link.payload_bits_per_token = station, payload_bits_per_token
        if delays is not None:
            delays.follow(settings.name, worker.link)
        return worker

    return start
